"""What can be said of a data set by looking at every image once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_lt.data.long_tail import Groups, groups_by_count, groups_by_thirds


@dataclass(frozen=True, slots=True)
class Look:
    """One image.

    Attributes:
        name: as `StoredImage.name`.
        width: in pixels, with the EXIF rotation applied.
        height: likewise.
        mode: Pillow's, as stored.
        content: SHA-256 of the size and the decoded RGB pixels, hexadecimal.
        is_grey: red, green and blue are equal in every pixel.
        is_constant: every pixel is the same.
        problem: why it cannot be read, and then nothing else is known; empty for others.
    """

    name: str
    width: int = 0
    height: int = 0
    mode: str = ""
    content: str = ""
    is_grey: bool = False
    is_constant: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Entry:
    """An image that is shown to people.

    Attributes:
        part: "train", "test" or "validation".
        row: of that part.
        name: as `StoredImage.name`.
        label: class number, -1 where unknown.
        problem: of one that cannot be read.
    """

    part: str
    row: int
    name: str
    label: int
    problem: str = ""


@dataclass(frozen=True)
class Copies:
    """Images whose decoded pixels are the same, two or more.

    Attributes:
        content: see `Look`.
        images: training images first, in order of their rows.
    """

    content: str
    images: tuple[Entry, ...]

    @property
    def is_conflict(self) -> bool:
        """The same picture under different labels."""
        return len({image.label for image in self.images if image.label >= 0}) > 1

    @property
    def is_leak(self) -> bool:
        """It is trained on and tested on."""
        return {"train", "test"} <= self._parts

    @property
    def is_spoiled(self) -> bool:
        """It is in the validation set, and in another."""
        return "validation" in self._parts and len(self._parts) > 1

    @property
    def _parts(self) -> set[str]:
        return {image.part for image in self.images}

    def within(self, part: str) -> int:
        """How many of them are in one part."""
        return sum(image.part == part for image in self.images)


@dataclass(frozen=True)
class Part:
    """The training, the test or the validation images.

    Attributes:
        name: "train", "test" or "validation".
        num_images: readable or not.
        counts_per_class: (C,) images, readable or not; empty without labels.
        num_unlabelled: images without a label.
        sizes: ((width, height), images), the most frequent first.
        modes: (mode, images), likewise.
        unreadable: by row.
        grey: likewise; constant ones are listed there alone.
        constant: likewise.
    """

    name: str
    num_images: int
    counts_per_class: tuple[int, ...]
    num_unlabelled: int
    sizes: tuple[tuple[tuple[int, int], int], ...]
    modes: tuple[tuple[str, int], ...]
    unreadable: tuple[Entry, ...]
    grey: tuple[Entry, ...]
    constant: tuple[Entry, ...]


@dataclass(frozen=True)
class Inspection:
    """A source.

    Attributes:
        source: its name.
        class_names: (C,); empty without labels.
        parts: training images, and test and validation images where there are any.
        copies: images that occur more than once, by their first row.
    """

    source: str
    class_names: tuple[str, ...]
    parts: tuple[Part, ...]
    copies: tuple[Copies, ...]

    @property
    def counts_per_class(self) -> tuple[int, ...]:
        """(C,) training images."""
        return self.parts[0].counts_per_class

    @property
    def imbalance_factor(self) -> float | None:
        """Largest over smallest class of the training images; None if one has none."""
        counts = self.counts_per_class
        return max(counts) / min(counts) if counts and min(counts) > 0 else None

    @property
    def groups(self) -> tuple[Groups, ...]:
        """Under both rules; none without labels."""
        counts = np.asarray(self.counts_per_class)
        return (groups_by_count(counts), groups_by_thirds(counts)) if counts.size else ()

    @property
    def conflicts(self) -> tuple[Copies, ...]:
        """The same picture under different labels."""
        return tuple(copies for copies in self.copies if copies.is_conflict)

    @property
    def leaks(self) -> tuple[Copies, ...]:
        """Pictures both trained on and tested on."""
        return tuple(copies for copies in self.copies if copies.is_leak)

    @property
    def spoiled(self) -> tuple[Copies, ...]:
        """Pictures of the validation set that are trained or tested on."""
        return tuple(copies for copies in self.copies if copies.is_spoiled)

    def duplicates(self, part: str) -> tuple[Copies, ...]:
        """Pictures that one part has more than once."""
        return tuple(copies for copies in self.copies if copies.within(part) > 1)


def inspection(
    source: str,
    class_names: tuple[str, ...],
    looks: Mapping[str, Sequence[Look]],
    labels: Mapping[str, NDArray[np.int64]],
) -> Inspection:
    """Puts together what was seen.

    Args:
        source: its name.
        class_names: (C,); empty without labels.
        looks: part -> at each of its images; "train" comes first.
        labels: of these parts, -1 where unknown.
    """
    parts = [(part, images, labels[part]) for part, images in looks.items()]
    times = Counter(look.content for _, images, _ in parts for look in images)
    seen: dict[str, list[Entry]] = {}
    for name, images, classes in parts:
        for entry, look in _entries(name, images, classes):
            if look.content and times[look.content] > 1:
                seen.setdefault(look.content, []).append(entry)
    return Inspection(
        source=source,
        class_names=class_names,
        parts=tuple(_part(*part, num_classes=len(class_names)) for part in parts),
        copies=tuple(Copies(content, tuple(images)) for content, images in seen.items()),
    )


def _entries(
    part: str, looks: Sequence[Look], labels: NDArray[np.int64]
) -> Iterator[tuple[Entry, Look]]:
    for row, (look, label) in enumerate(zip(looks, labels.tolist(), strict=True)):
        yield Entry(part, row, look.name, label, look.problem), look


def _part(name: str, looks: Sequence[Look], labels: NDArray[np.int64], *, num_classes: int) -> Part:
    def those(belongs: Callable[[Look], bool]) -> tuple[Entry, ...]:
        return tuple(entry for entry, look in _entries(name, looks, labels) if belongs(look))

    readable = [look for look in looks if not look.problem]
    known = labels[labels >= 0]
    sizes = Counter((look.width, look.height) for look in readable)
    return Part(
        name=name,
        num_images=len(looks),
        counts_per_class=tuple(np.bincount(known, minlength=num_classes).tolist()),
        num_unlabelled=len(labels) - len(known),
        sizes=tuple(sizes.most_common()),
        modes=tuple(Counter(look.mode for look in readable).most_common()),
        unreadable=those(lambda look: bool(look.problem)),
        grey=those(lambda look: look.is_grey and not look.is_constant),
        constant=those(lambda look: look.is_constant),
    )
