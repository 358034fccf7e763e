"""The parts of a data set, by the names that people give them, and what belongs to none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# In any case, the likeliest first. A set for evaluation is the test set where there is none.
_NAMES = {
    "train": ("train", "training", "trainval"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
_ALL = {name: part for part, names in _NAMES.items() for name in names}
# Words that say a part only beside others: alone, they may well be a class.
_WORDS = _ALL | {
    "trn": "train", "tr": "train",
    "tst": "test", "te": "test", "tests": "test", "holdout": "test", "heldout": "test",
    "validate": "validation",
}  # fmt: skip
_TAIL = re.compile(r"(?<=\w)(sets?|data|images?|imgs?|split)$")  # as of "trainset"
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
HELD = ("test", "validation")
PART_NAMES = "train, val, valid, validation, dev, test or eval"


@dataclass(frozen=True)
class Parts:
    """Names of the parts that are there, None for one that is not.

    Attributes:
        train: what is trained on.
        test: what is tested on; a single part beside `train` is this, whatever its name.
        validation: what models are selected on.
        others: all other names, in order.
    """

    train: str | None
    test: str | None
    validation: str | None
    others: tuple[str, ...] = ()

    @property
    def held(self) -> dict[str, str]:
        """Test and validation, as "test" and "validation" -> their names, where they are there."""
        held = {"test": self.test, "validation": self.validation}
        return {part: name for part, name in held.items() if name is not None}


@dataclass(frozen=True)
class LeftOut:
    """Files, or rows, that are there and no images of the source.

    Attributes:
        kind: their suffix, or what else they have in common.
        place: class or folder that they are in; "" where that says nothing.
        count: how many.
    """

    kind: str
    place: str
    count: int


def find_parts(names: Iterable[str]) -> Parts:
    """Which name is which part's.

    Args:
        names: of folders, of the parts of a published set, or in a column.
    """
    names = list(names)
    first = {part: _first(names, part) for part in _NAMES}
    test, validation = first["test"], first["validation"]
    if test is None:
        test, validation = validation, None
    elif validation is None and test.lower() in ("test", "testing"):
        validation = next((n for n in names if n.lower() in ("eval", "evaluation")), None)
    taken = {first["train"], test, validation}
    return Parts(first["train"], test, validation, tuple(n for n in names if n not in taken))


def part_of(name: str) -> str | None:
    """The part that a name stands for: "train", "test", "validation", or None."""
    return _ALL.get(name.strip().lower())


def part_within(name: str) -> tuple[str | None, bool]:
    """The part that a word of a name stands for, and whether the name says nothing else.

    As of "train2017", "trainset" or "testA" or, with another word, "seg_test" or "TrainingSet".
    """
    words = [word.lower() for word in _WORD.findall(name) if len(word) > 1]
    parts = [part for word in words if (part := _part_of_word(word))]
    return (parts[0] if parts else None), len(words) == 1 and _TAIL.sub("", words[0]) in _ALL


def word_of_part(name: str) -> str | None:
    """The name of a part among the words of another, as of a file "imagenet-train-0001.tar"."""
    words = (word.lower() for word in _WORD.findall(name))
    return next((word for word in words if word in _ALL), None)


def _part_of_word(word: str) -> str | None:
    return _WORDS.get(word) or _WORDS.get(_TAIL.sub("", word))


def _first(names: list[str], part: str) -> str | None:
    """The likeliest name of a part; of two spellings the first."""
    order = {name: place for place, name in enumerate(_NAMES[part])}
    there = [name for name in names if name.lower() in order]
    return min(there, key=lambda name: order[name.lower()], default=None)
