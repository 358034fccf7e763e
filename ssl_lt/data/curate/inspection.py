"""What is known of a data set when every image was decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.groups import Groups
from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.data.sources.parts import LeftOut


@dataclass(frozen=True, slots=True)
class Values:
    """Stored values of an image: the lowest and highest, of all pixels and of nearly all."""

    low: float
    high: float
    typical_low: float
    typical_high: float


@dataclass(frozen=True, slots=True)
class ImageStats:
    """One image.

    Attributes:
        name: as `ImageTable.name`.
        width: in pixels, with the EXIF rotation applied.
        height: in pixels, with the EXIF rotation applied.
        mode: Pillow's, as stored.
        content: SHA-256 of the size and the decoded RGB pixels, hexadecimal.
        is_grey: red, green and blue are equal in every pixel.
        is_constant: every pixel is the same.
        values: of an image of more than 8 bits, see `Values`.
        problem: why it cannot be read, and then nothing else is known; empty for others.
    """

    name: str
    width: int = 0
    height: int = 0
    mode: str = ""
    content: str = ""
    is_grey: bool = False
    is_constant: bool = False
    values: Values | None = None
    problem: str = ""


@dataclass(frozen=True)
class Entry:
    """An image that is shown to people.

    Attributes:
        part: "train", "test" or "validation".
        row: of that part.
        name: as `ImageTable.name`.
        label: class number, -1 where unknown.
        problem: of one that cannot be read.
    """

    part: str
    row: int
    name: str
    label: int
    problem: str = ""


@dataclass(frozen=True)
class DuplicateGroup:
    """Images whose decoded pixels are the same, two or more.

    Attributes:
        content: see `ImageStats`.
        images: training images first, in order of their rows.
    """

    content: str
    images: tuple[Entry, ...]

    @property
    def parts(self) -> set[str]:
        """Parts that have one of them."""
        return {image.part for image in self.images}

    def within(self, part: str) -> int:
        """How many of them are in one part."""
        return sum(image.part == part for image in self.images)


@dataclass(frozen=True)
class SplitStats:
    """The training, the test or the validation images.

    Attributes:
        name: "train", "test" or "validation".
        num_images: readable or not.
        counts_per_class: (C,) images, readable or not; empty without labels.
        num_unlabelled: images without a label.
        sizes: ((width, height), images), the most frequent first.
        modes: (mode, images), the most frequent first.
        unreadable: images that cannot be read, by row.
        grey: grey images by row, without those that are constant.
        constant: images of one colour, by row.
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
        left_out: what is there and is no image of the source.
    """

    source: str
    class_names: tuple[str, ...]
    parts: tuple[SplitStats, ...]
    copies: tuple[DuplicateGroup, ...]
    left_out: tuple[LeftOut, ...] = ()

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
    def conflicts(self) -> tuple[DuplicateGroup, ...]:
        """The same image under different labels."""
        return tuple(
            copies
            for copies in self.copies
            if len({image.label for image in copies.images if image.label >= 0}) > 1
        )

    @property
    def leaks(self) -> tuple[DuplicateGroup, ...]:
        """Images both trained on and tested on."""
        return tuple(copies for copies in self.copies if {"train", "test"} <= copies.parts)

    @property
    def contaminated_validation(self) -> tuple[DuplicateGroup, ...]:
        """Images of the validation set that are trained or tested on."""
        return tuple(
            copies
            for copies in self.copies
            if "validation" in copies.parts and len(copies.parts) > 1
        )

    def duplicates(self, part: str) -> tuple[DuplicateGroup, ...]:
        """Images that one part has more than once."""
        return tuple(copies for copies in self.copies if copies.within(part) > 1)


def inspection(
    source: str,
    class_names: tuple[str, ...],
    stats: Mapping[str, Sequence[ImageStats]],
    labels: Mapping[str, NDArray[np.int64]],
    left_out: tuple[LeftOut, ...] = (),
) -> Inspection:
    """Puts together what is known of each image.

    Args:
        source: its name.
        class_names: (C,); empty without labels.
        stats: part -> of each of its images; "train" comes first.
        labels: of these parts, -1 where unknown.
        left_out: what is there besides.
    """
    parts = [(part, images, labels[part]) for part, images in stats.items()]
    times = Counter(image.content for _, images, _ in parts for image in images)
    seen: dict[str, list[Entry]] = {}
    for name, images, classes in parts:
        for entry, image in _entries(name, images, classes):
            if image.content and times[image.content] > 1:
                seen.setdefault(image.content, []).append(entry)
    return Inspection(
        source=source,
        class_names=class_names,
        parts=tuple(_part(*part, num_classes=len(class_names)) for part in parts),
        copies=tuple(DuplicateGroup(content, tuple(images)) for content, images in seen.items()),
        left_out=left_out,
    )


def _entries(
    part: str, stats: Sequence[ImageStats], labels: NDArray[np.int64]
) -> Iterator[tuple[Entry, ImageStats]]:
    for row, (image, label) in enumerate(zip(stats, labels.tolist(), strict=True)):
        yield Entry(part, row, image.name, label, image.problem), image


def _part(
    name: str, stats: Sequence[ImageStats], labels: NDArray[np.int64], *, num_classes: int
) -> SplitStats:
    def those(belongs: Callable[[ImageStats], bool]) -> tuple[Entry, ...]:
        return tuple(entry for entry, image in _entries(name, stats, labels) if belongs(image))

    readable = [image for image in stats if not image.problem]
    known = labels[labels >= 0]
    sizes = Counter((image.width, image.height) for image in readable)
    return SplitStats(
        name=name,
        num_images=len(stats),
        counts_per_class=tuple(np.bincount(known, minlength=num_classes).tolist()),
        num_unlabelled=len(labels) - len(known),
        sizes=tuple(sizes.most_common()),
        modes=tuple(Counter(image.mode for image in readable).most_common()),
        unreadable=those(lambda image: bool(image.problem)),
        grey=those(lambda image: image.is_grey and not image.is_constant),
        constant=those(lambda image: image.is_constant),
    )
