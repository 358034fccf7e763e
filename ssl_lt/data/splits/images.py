"""The images of a run by name: written when it starts, compared when its data looks otherwise."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.disk.files import csv_lines, write_atomically
from ssl_lt.core.errors import DataError, shortened
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.table import ImageTable

_NO_ROWS = np.empty(0, dtype=np.int64)
_COLUMNS = ("part", "image", "class", "bytes")


@dataclass(frozen=True)
class Images:
    """What is known of each image without opening it, column by column.

    Attributes:
        parts: "train", "test" or "validation"; those of "train" in the order of the training set.
        names: see `ImageTable.identities`.
        classes: name of the class; "" where unknown.
        sizes: in bytes, as text; "" of an image that is not trained on.
    """

    parts: Sequence[str]
    names: Sequence[str]
    classes: Sequence[str]
    sizes: Sequence[str]

    def trained(self, rows: NDArray[np.int64]) -> list[tuple[str, str]]:
        """Name and size of rows of the training set."""
        first = self.parts.index("train")
        return [(self.names[first + row], self.sizes[first + row]) for row in rows.tolist()]


def images_of(
    source: Source, rows: NDArray[np.int64] = _NO_ROWS, sizes: Sequence[int | str] = ()
) -> Images | None:
    """All images of a source; None where they have no names.

    Args:
        source: of the data.
        rows: of the training set, that are trained on.
        sizes: their files', see `ImageTable.file_sizes`.
    """
    parts, names, classes, known = list[str](), list[str](), list[str](), list[str]()
    for part, table in source.parts.items():
        found = table.identities()
        if found is None:
            return None
        parts += [part] * len(table)
        names += found
        classes += _classes(source, table)
        own = [""] * len(table)
        if part == "train":
            for row, size in zip(rows.tolist(), sizes, strict=True):
                own[row] = str(size)
        known += own
    return Images(parts, names, classes, known)


def write_images(path: Path, images: Images) -> None:
    """A packed CSV with a line an image.

    Raises:
        DiskError: it cannot be written.
    """
    lines = zip(images.parts, images.names, images.classes, images.sizes, strict=True)
    # Without the time, so that equal runs have equal files.
    packed = gzip.compress(csv_lines([_COLUMNS, *lines]), mtime=0)
    write_atomically(path, lambda file: file.write(packed))


def read_images(path: Path) -> Images | None:
    """What `write_images` wrote; None where a run has no such file.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        if tuple(header) != _COLUMNS:
            raise ValueError(f"columns {header}")
        columns = zip(*lines, strict=True)
        return Images(*(list(column) for column in columns))
    except (OSError, EOFError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a list of images: {error}") from error


def what_changed(was: Images | None, now: Images | None) -> str:
    """Such as "2 images added (a/1.png, a/2.png), 1 gone (b/3.png)".

    "" where nothing is known, or nothing that names, classes and sizes tell.
    """
    if was is None or now is None:
        return ""
    before, after = Counter(was.names), Counter(now.names)
    classes = dict(zip(was.names, was.classes, strict=True))
    sizes = dict(zip(was.names, was.sizes, strict=True))
    kept = [
        (name, own, size)
        for name, own, size in zip(now.names, now.classes, now.sizes, strict=True)
        if before[name] == after[name] == 1
    ]
    moved = [name for name, own, _ in kept if own != classes[name]]
    other = [name for name, _, size in kept if size and sizes[name] and size != sizes[name]]
    told = [
        _told([*(after - before).elements()], "added"),
        _told([*(before - after).elements()], "gone"),
        _told(moved, "in another class"),
        _told(other, "of another size"),
    ]
    return ", ".join(text for text in told if text)


def matched_rows(
    was: Sequence[tuple[str, str]], now: Sequence[tuple[str, str]]
) -> NDArray[np.int64]:
    """(len(now),) the row of `was` with the same name and size; -1 where there is not just one."""
    counts = Counter(was)
    row_of = {image: row for row, image in enumerate(was) if counts[image] == 1}
    return np.array([row_of.get(image, -1) for image in now], dtype=np.int64)


def _told(names: Sequence[str], how: str) -> str:
    plural = "s" if len(names) > 1 else ""
    return f"{len(names):,} image{plural} {how} ({shortened(sorted(names))})" if names else ""


def _classes(source: Source, table: ImageTable) -> list[str]:
    names = (*source.class_names, "")  # -1 is the last one: unknown
    return [names[label] for label in table.labels.tolist()]
