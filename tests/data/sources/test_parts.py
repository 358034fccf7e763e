"""Names of parts."""

import pytest

from ssl_lt.data.sources.parts import Parts, find_parts, part_at_start, part_of


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
    starts = ("validation-0.tar", "Train_00.tar", "val2017.tar", "shard-0.tar")
    assert [part_at_start(name) for name in starts] == ["validation", "train", "val", None]
