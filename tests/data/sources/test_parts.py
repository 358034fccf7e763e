"""Names of parts."""

import pytest

from ssl_lt.data.sources.parts import Parts, find_parts, part_of, part_within, word_of_part


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (["train", "valid"], Parts("train", "valid", None)),
        (["Train", "Test"], Parts("Train", "Test", None)),
        (["TRAIN", "VAL", "TEST"], Parts("TRAIN", "TEST", "VAL")),
        (["train", "valid", "test"], Parts("train", "test", "valid")),
        (["Training", "Testing"], Parts("Training", "Testing", None)),
        (["train", "dev", "eval"], Parts("train", "eval", "dev")),
        (["train", "eval", "test"], Parts("train", "test", "eval")),
        (["train", "dev"], Parts("train", "dev", None)),
        (["train", "val", "valid", "test"], Parts("train", "test", "valid", ("val",))),
        (["train", "eval", "test", "val"], Parts("train", "test", "val", ("eval",))),
        (["bus", "train"], Parts("train", None, None, ("bus",))),
        (["test", "trainval"], Parts("trainval", "test", None)),
        (["trains", "tests"], Parts(None, None, None, ("trains", "tests"))),
    ],
)
def test_parts_by_their_names(names, want):
    assert find_parts(names) == want


def test_a_name_alone_and_at_the_start_of_a_file():
    assert [part_of(name) for name in ("Valid", "dev", "EVAL", "train ", "cat")] == [
        "validation",
        "validation",
        "test",
        "train",
        None,
    ]
    files = (
        "validation-0.tar",
        "Train_00.tar",
        "val2017.tar",
        "imagenet-test-0.tar",
        "shard-0.tar",
    )
    assert [word_of_part(name) for name in files] == ["validation", "train", "val", "test", None]


@pytest.mark.parametrize(
    ("name", "part", "is_alone"),
    [
        ("train2017", "train", True),
        ("trainset", "train", True),
        ("testA", "test", True),
        ("seg_test", "test", False),
        ("TrainingSet", "train", False),
        ("PublicTest", "test", False),
        ("holdout", "test", False),
        ("tst", "test", False),
        ("trains", None, False),
        ("contest", None, False),
        ("dataset", None, False),
        ("2017", None, False),
    ],
)
def test_words_of_parts_inside_names(name, part, is_alone):
    assert part_within(name) == (part, is_alone)
