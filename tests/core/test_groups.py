from dataclasses import asdict

from ssl_lt.core.groups import ByGroup, GroupStatistics, leading_groups, leading_rule


def test_iterating_and_mapping_keep_names_and_rule():
    groups = ByGroup("r", (0,), (1, 2), ())
    assert list(groups) == [("many", (0,)), ("medium", (1, 2)), ("few", ())]
    assert groups.map(len) == ByGroup("r", 1, 2, 0)
    assert list(asdict(GroupStatistics("r", 1, 2, 3, 0.5))) == [
        *("rule", "many", "medium", "few", "std"),
    ]


def test_the_first_rule_without_an_empty_group_leads():
    lacking, complete = ByGroup("a", 0.0, 0.5, None), ByGroup("b", 0.0, 0.5, 1.0)
    assert leading_groups([lacking, complete]) is complete
    assert leading_groups([lacking]) is lacking
    assert leading_groups([]) is None
    classes = ByGroup("thirds", (0,), (1,), (2,))
    assert leading_groups([ByGroup("count", (0, 1), (2,), ()), classes]) is classes
    assert [leading_rule([lacking, complete]), leading_rule([])] == ["b", "none"]
