"""Images that cannot be read: found before training, left out and listed.

Nothing takes the place of such an image: its row is taken from the split, so that counts per
class, the order of an epoch and per-sample memories are those of the images that are left, and the
same in every process and after every resume.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ssl_lt.core.disk.files import csv_lines, write_atomically
from ssl_lt.core.errors import DataError
from ssl_lt.core.processes.distributed import gather_objects, rank, world_size
from ssl_lt.data.curate.describe import describe_table
from ssl_lt.data.options import DataOptions
from ssl_lt.data.sources.source import Source
from ssl_lt.data.splits.split import Split
from ssl_lt.data.splits.train_split import rows_per_class
from ssl_lt.data.tables.table import ImageTable, PixelTable


@dataclass(frozen=True, slots=True)
class BadImage:
    """An image that cannot be read.

    Attributes:
        part: "train", "test" or "validation".
        row: of the whole training set, or of that part.
        name: what people find it by.
        reason: why not.
    """

    part: str
    row: int
    name: str
    reason: str


def bad_images(
    source: Source, options: DataOptions, *, listed: Path | None
) -> tuple[BadImage, ...]:
    """Which images to leave out; none where the policy is to stop at the first.

    Args:
        source: of the data.
        options: the policy.
        listed: where a run that goes on, or is evaluated, has listed them; None for a new run.

    Raises:
        DataError: as `find_bad_images` and `read_bad_images` say.
    """
    if options.bad_images == "stop":
        return ()
    if listed is not None and listed.is_file():
        return read_bad_images(listed)
    return find_bad_images(source, limit=options.max_bad_images)


def find_bad_images(source: Source, *, limit: int) -> tuple[BadImage, ...]:
    """Decodes every image once; the processes share the work and all get the same answer.

    Args:
        source: of the data; pixels in memory are skipped.
        limit: images that may be bad.

    Raises:
        DataError: more are; names the first.
    """
    own = []
    for part, table in source.parts.items():
        if isinstance(table, PixelTable):
            continue
        rows = range(rank(), len(table), world_size())
        for row, image in zip(rows, describe_table(table, rows), strict=True):
            if image.problem:
                own.append(BadImage(part, row, image.name, image.problem))
            if len(own) > limit:
                break
    order = list(source.parts)
    found = sorted(chain(*gather_objects(own)), key=lambda bad: (order.index(bad.part), bad.row))
    if len(found) > limit:
        raise DataError(
            f"{source.name}: more than {limit} images cannot be read (--max-bad-images), the first "
            f"is {found[0].part} image {found[0].name}: {found[0].reason}"
        )
    return tuple(found)


def readable(
    table: ImageTable, bad: Sequence[BadImage], *, part: str, withheld: Sequence[int] = ()
) -> ImageTable:
    """The rows of a part that are not bad, nor withheld; the table itself where that is all."""
    rows = [*_rows(bad, part), *withheld]
    return table.take(np.setdiff1d(np.arange(len(table)), rows)) if rows else table


def readable_split(split: Split, source: Source, bad: Sequence[BadImage]) -> Split:
    """The split without bad rows, and its classes counted anew.

    Args:
        split: as chosen.
        source: of the data.
        bad: see `find_bad_images`.

    Raises:
        DataError: a class, or the whole split, has no image left.
    """
    if not bad:
        return split
    indices = split.indices[~np.isin(split.indices, _rows(bad, "train"))]
    counts = rows_per_class(source, source.train, indices)
    empty = [c for c, count in zip(source.class_names, counts, strict=False) if count == 0]
    if len(indices) == 0 or empty:
        what = f"class {empty[0]!r}" if empty else "the training set"
        raise DataError(f"{split.source}: {what} has no image left that can be read")
    return replace(split, indices=indices, counts_per_class=counts)


def write_bad_images(path: Path, bad: Sequence[BadImage]) -> None:
    """A CSV with a line an image.

    Raises:
        DiskError: it cannot be written.
    """
    names = [field.name for field in fields(BadImage)]
    lines = csv_lines([names, *(astuple(image) for image in bad)])
    write_atomically(path, lambda file: file.write(lines))


def read_bad_images(path: Path) -> tuple[BadImage, ...]:
    """What `write_bad_images` wrote.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(
                BadImage(line["part"], int(line["row"]), line["name"], line["reason"])
                for line in csv.DictReader(file)
            )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a list of bad images: {error}") from error


def _rows(bad: Sequence[BadImage], part: str) -> list[int]:
    return [image.row for image in bad if image.part == part]
