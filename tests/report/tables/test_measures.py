import json
from dataclasses import replace

import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.geometry.representation import measure_representation
from ssl_lt.evaluate.scores.calibration import calibration
from ssl_lt.evaluate.scores.correct_mask import (
    CorrectMask,
    pack_correct,
    pack_groups,
    unpack_correct,
)
from ssl_lt.evaluate.scores.group_intervals import GroupedAnswers, paired_group_difference
from ssl_lt.evaluate.scores.intervals import Interval, paired_difference, unpaired_difference
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.records.results import read_results, to_json, write_results
from ssl_lt.report.tables.comparison import compare, difference_table
from ssl_lt.report.tables.intervals import difference_intervals, intervals_of
from ssl_lt.report.tables.summary import leading_table, summary_tables
from ssl_lt.report.tables.table import POINTS

LABELS = np.repeat(np.arange(12), 40)


def measured(run, *, collapsed=False, test="t"):
    """The run with all that an evaluation adds to it; its answers agree with its confusions."""
    random = np.random.default_rng(0)
    evaluations = []
    for evaluation in run.evaluations:
        hits = evaluation.confusion.hits(num_classes=len(run.data.class_names))
        right = np.concatenate([np.arange(40) < h for h in hits])
        groups = run.data.groups
        evaluations.append(
            replace(
                evaluation,
                intervals=intervals_of(run, evaluation),
                calibration=calibration(random.random(480), right, LABELS, groups=groups),
                answers=pack_correct(right, LABELS, test_sha256=test),
            )
        )
    features = random.standard_normal((480, 8)) * (0.001 if collapsed else 1) + 1.0 * collapsed
    found = measure_representation("backbone", features, LABELS, groups=run.data.groups)
    return replace(run, evaluations=tuple(evaluations), representations=(found,))


def rows_of(table):
    return [dict(zip(table.headings, row, strict=True)) for row in table.rows]


def test_comes_back_as_it_went_and_old_files_are_read(make_run, tmp_path):
    run = measured(make_run())
    write_results(run, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == run
    plain = json.loads(to_json(run))
    for evaluation in plain["evaluations"]:
        evaluation["calibration"]["bins"] = [{"count": 1, "confidence": 0.5, "accuracy": None}]
    (tmp_path / "bins.json").write_text(json.dumps(plain))
    assert read_results(tmp_path / "bins.json") == run
    del plain["representations"]
    for evaluation in plain["evaluations"]:
        for name in ("intervals", "calibration", "answers"):
            del evaluation[name]
    (tmp_path / "old.json").write_text(json.dumps(plain))
    assert read_results(tmp_path / "old.json").evaluations == make_run().evaluations


@pytest.mark.parametrize("bits", ["??", "AAAA"])
def test_answers_that_do_not_fit_are_named(make_run, tmp_path, bits):
    run = measured(make_run())
    broken = replace(run.evaluations[1], answers=CorrectMask("t", bits))
    write_results(replace(run, evaluations=(run.evaluations[0], broken)), tmp_path / "r.json")
    with pytest.raises(DataError, match=r"r\.json: evaluations\[1\]\.answers\.right: "):
        read_results(tmp_path / "r.json")


def test_intervals_of_an_old_file_are_the_same(make_run):
    run = make_run()
    stored = measured(run)
    for old, new in zip(run.evaluations, stored.evaluations, strict=True):
        assert intervals_of(run, old) == new.intervals


def test_calibration_and_representation_have_a_row_each(make_run):
    runs = [measured(make_run("a")), measured(make_run("b"))]
    *_, by_error, by_group = summary_tables(runs)
    rows = rows_of(by_error)
    assert [(r["Run"], r["Evaluation"]) for r in rows] == [
        *(("a", "kNN"), ("b", "kNN")),
        *(("a", "linear probe"), ("b", "linear probe")),
    ]
    found = runs[1].evaluations[1].calibration
    assert rows[3]["All"] == found.error
    assert rows[3]["Few"] == found.groups[0].few
    assert rows[3]["Sure"] == found.confidence
    rows = rows_of(by_group)
    assert [r["Classes"] for r in rows] == 2 * ["all", "many", "medium", "few"]
    few = runs[0].representations[0].groups[0].few
    assert rows[3]["Rank"] == few.effective_rank
    shown = dict(zip(by_group.headings, by_group.texts()[3], strict=True))
    assert shown["Uniform"] == f"−{abs(few.uniformity):.2f}"
    assert shown["Align"] == "n/a"
    assert [t.title for t in summary_tables([make_run()])][-1] == "What the mean hides"


@pytest.mark.slow
def test_collapse_stands_on_the_page_and_in_markdown(make_run, tmp_path):
    write_page([measured(make_run(), collapsed=True)], tmp_path / "index.html")
    for name in ("index.html", "index.md"):
        assert "Sign of collapse: the features use few directions" in (tmp_path / name).read_text()
    write_page([measured(make_run())], tmp_path / "index.html")
    assert "Sign of collapse" not in (tmp_path / "index.html").read_text()


def both(before, after, how):
    found, said = difference_intervals(
        (before, before.evaluations[0]), (after, after.evaluations[0])
    )
    assert said == how
    return found


def test_pairs_only_what_saw_the_same_test_images(make_run):
    a, b = measured(make_run("a")), measured(make_run("b", boost=0.1))
    groups, num_test = a.data.groups, np.full(12, 40)
    bits = [unpack_correct(r.evaluations[0].answers, num_images=480) for r in (a, b)]
    paired = both(a, b, "paired")
    assert paired == paired_difference(*bits, num_test, groups=groups)
    apart = both(a, measured(make_run("b", boost=0.1), test="other"), "unpaired")
    hits = [(r.evaluations[0].confusion.hits(num_classes=num_test.size), num_test) for r in (a, b)]
    assert apart == unpaired_difference(*hits, groups=groups)
    assert both(a, make_run("b", boost=0.1), "unpaired") == apart
    narrow, wide = (i.balanced.high - i.balanced.low for i in (paired, apart))
    assert narrow < wide


def test_groups_of_test_images_are_drawn_for_both(make_run, tmp_path):
    a, b = measured(make_run("a")), measured(make_run("b", boost=0.1))
    labels, ids = np.repeat(np.arange(12), 40), np.arange(480) // 10
    packed = {"grouped_by": "column 'patient'", "test_groups": pack_groups(ids, labels)}
    grouped = [replace(run, data=replace(run.data, **packed)) for run in (a, b)]
    rights = [unpack_correct(r.evaluations[0].answers, num_images=480) for r in (a, b)]
    first = GroupedAnswers(rights[0], labels, ids)
    expected = paired_group_difference(first, rights[1], num_classes=12, groups=a.data.groups)
    found = both(*grouped, "paired")
    # One of the two is enough to say which images belong together.
    assert found == expected == both(grouped[0], b, "paired") == both(a, grouped[1], "paired")
    assert found != both(a, b, "paired")
    other = measured(make_run("b", boost=0.1), test="other")
    apart = both(grouped[0], other, "unpaired")
    assert apart.balanced.high > apart.balanced.low
    (pair,) = compare(grouped)
    note = difference_table(pair).note
    assert "the same groups of test images (column 'patient') were drawn" in note
    over = "interval over groups of test images (column 'patient'), which says"
    assert over in leading_table(grouped)[0].note
    assert "over test images, or groups of them (column" in leading_table([a, grouped[1]])[0].note
    write_results(grouped[0], tmp_path / "results.json")
    assert read_results(tmp_path / "results.json").data == grouped[0].data
    cut = replace(grouped[0], data=replace(grouped[0].data, test_groups="AAAA"))
    write_results(cut, tmp_path / "results.json")
    with pytest.raises(DataError, match="test_groups: 3 bytes for 480 test images"):
        read_results(tmp_path / "results.json")


def test_difference_table_says_which_intervals(make_run):
    a, b = measured(make_run("a")), measured(make_run("b", boost=0.1))
    (found,) = compare([a, b])
    table = difference_table(found)
    intervals = both(a, b, "paired")
    assert [row[0] for row in table.rows[1::2]] == ["95 %, paired"] * 2
    few = intervals.groups[1].few
    assert table.rows[3][4] == few
    assert table.texts()[3][4] == f"[{POINTS(few.low)}, {POINTS(few.high)}]"
    assert "paired" in table.note
    (found,) = compare([a, make_run("b")])
    assert "unpaired" in difference_table(found).note


def test_groups_of_other_classes_get_no_interval(make_run):
    a, b = measured(make_run("a")), measured(make_run("b", largest=50_000))
    (found,) = compare([a, b])
    rows = rows_of(difference_table(found))
    assert rows[1]["Few"] is None
    assert isinstance(rows[1]["All"], Interval)
