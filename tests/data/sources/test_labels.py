"""Labels as texts: numbers, names, several at once, none."""

import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.data.sources.labels import check_one_label_each, label_notes, number_classes


def said_of(texts) -> str:
    """What is said of labels that cannot be used; "" where they can."""
    try:
        check_one_label_each(texts, lambda row: f"row {row}")
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "texts",
    [
        ["Effusion", "Effusion|Mass", "Mass"],
        ["Atelectasis|Effusion", "Effusion|Mass", "Mass|Nodule"],
        ["Effusion", "Nodule|Effusion"],
        ["a;b", "b;c", "c"],
        ["16|0", "7", "1"],
        ["a|b", "a", "c"],
        ["cat\tdog", "cat", "dog"],
        ["cat\ndog", "cat", "dog"],
        ["cat", "dog", "cat, dog"],
        ["cat", "dog", "cat,dog"],
        ["16 0", "5", "7 16"],
        ["['cat', 'dog']", "x"],
        ["['cat']", "['dog']"],
        ['["cat", "dog"]', "x"],
        ["[cat, dog]", "x"],
        ["('cat', 'dog')", "x"],
        ["{'cat': 1}", "x"],
        ["[0 1 0]", "[1 0 0]"],
        ["[1]", "[2]"],
        ["nan", "cat"],
        ["NaN", "cat"],
        ["<NA>", "cat"],
        ["N/A", "cat"],
        ["NaT", "cat"],
    ],
)
def test_several_labels_and_none_are_refused_with_what_they_are(texts):
    said = said_of(texts)
    assert said.startswith("row ")
    assert any(repr(text) in said for text in texts)
    assert "--label-column none" in said


@pytest.mark.parametrize(
    "texts",
    [
        ["rash, mild", "rash, severe", "healthy"],
        ["Smith, John", "Smith, Ann"],
        ["Quercus robur", "Quercus rubra", "Bison bison"],
        ["Animalia|Chordata|Aves", "Animalia|Chordata|Mammalia", "Animalia|Mollusca"],
        ["Animalia", "Animalia|Chordata", "Animalia|Chordata|Aves"],
        ["a|b", "c|d"],
        ["(unknown)", "[other]"],
        ["001", "1", "2.5", None],
        ["dark red", "red", "blue"],
        ["none", "NA", "null", "-1"],
    ],
)
def test_names_with_odd_signs_are_names(texts):
    assert said_of(texts) == ""


def test_the_first_row_and_the_number_of_rows_are_named():
    said = said_of(["a", "a|b", "b", "a|b", "b|a"])
    assert said.startswith("row 1: label 'a|b' names several classes, parted by '|' (3 images")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["none", "cat"], "the label 'none' is taken for a class"),
        (["-1", "3"], "the label '-1' is taken for a class"),
        (["Cat", "cat"], "classes 'Cat' and 'cat' are the same but for case"),
        (["1", "1.0"], "classes '1' and '1.0' are the same numbers"),
        (["cat", "dog", "cat+dog"], "class 'cat+dog' may stand for several labels"),
        (["cat", "dog", "cat_dog"], "class 'cat_dog' may stand for several labels"),
        (["cat", "dog", "cat and dog"], "class 'cat and dog' may stand for several labels"),
        (["haze", "haze water", "water clear", "clear haze", "clear"], "may stand for several"),
    ],
)
def test_what_may_be_meant_otherwise_is_said(names, says):
    (note,) = label_notes(names)
    assert says in note


def test_plain_names_need_no_word():
    assert label_notes(["cat", "dog", "Quercus robur", "Quercus rubra", "007"]) == []


def test_numbers_are_in_order_by_value_and_names_in_one_form():
    assert number_classes(["2.0", "10.0", "1.0"])[0] == ("1.0", "2.0", "10.0")
    names, labels = number_classes(["caf\u00e9", "cafe\u0301", None])
    assert names == ("caf\u00e9",)
    assert labels.tolist() == [0, 0, -1]
