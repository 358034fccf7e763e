"""A table of texts that names image files, their labels and parts, and how it becomes a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_lt.core.errors import DataError, shortened
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.columns import group_column, split_column
from ssl_lt.data.sources.labels import number_classes
from ssl_lt.data.sources.parts import PART_NAMES, LeftOut, find_parts, part_of, part_within
from ssl_lt.data.sources.source import Source, with_part
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.grouping import group_ids

_MOST_PARTS = 10  # a column with more values says something else


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        name: of the source.
        columns: name -> (N,) fields without blanks around them; of the columns that are kept.
        lines: (N,) number of each row in the file, from 1.
        unit: what is numbered.
    """

    name: str
    columns: dict[str, list[str]]
    lines: list[int]
    unit: str = "line"

    def at(self, row: int) -> str:
        """Where a row stands, for errors."""
        return f"{self.name}: {self.unit} {self.lines[row]}"


@dataclass(frozen=True)
class PartColumns:
    """Columns that say which images go where, None for one that there is not.

    Attributes:
        split: says the part of each image.
        group: says which images belong together.
    """

    split: str | None
    group: str | None

    @property
    def kept(self) -> set[str]:
        """Those that there are."""
        return {column for column in (self.split, self.group) if column is not None}


def part_columns(
    header: Sequence[str],
    options: SourceOptions,
    *,
    name: str,
    texts: Mapping[str, Sequence[str]] | None = None,
) -> PartColumns:
    """Finds both among the columns of a table.

    Args:
        header: names of the columns.
        options: with the columns that were asked for.
        name: of the source.
        texts: fields of columns that may say the parts, whatever these are called.

    Raises:
        DataError: a column that was asked for is not there, or twice.
    """
    split = split_column(header, options.split_column, name=name)
    if split is None and options.split_column is None:
        split = _by_values(texts or {})
    return PartColumns(split, group_column(header, options.group_column, name=name))


def _by_values(texts: Mapping[str, Sequence[str]]) -> str | None:
    """The first column that says a part in each row, for training and another."""
    for column, values in texts.items():
        parts = {part_within(value)[0] for value in {*values}}
        if None not in parts and "train" in parts and len(parts) > 1:
            return column
    return None


def source_of_sheet(
    sheet: Sheet,
    table: FileTable,
    labels: Sequence[str | None],
    columns: PartColumns,
    options: SourceOptions,
    *,
    check: Callable[[str, Sequence[int]], None] = lambda part, rows: None,
) -> Source:
    """The images of a table as a source, with the parts that it names.

    Args:
        sheet: with these columns.
        table: (N,) image files, without labels.
        labels: (N,) texts, None where there is none.
        columns: which say parts and groups.
        options: with the columns that were asked for.
        check: takes a part and its rows, and refuses those whose labels lack.

    Raises:
        DataError: as `_parts` and `with_part` say.
    """
    name, split = sheet.name, columns.split
    parts, left_out, notes = _parts(sheet, split, is_asked=options.split_column is not None)
    grouped_by = ""
    if columns.group is not None:
        grouped_by = f"column {columns.group!r}"
        ids, alone = group_ids(sheet.columns[columns.group], where=name)
        table = replace(table, group_ids=ids)
        if alone:
            notes.append(f"{alone:,} images have nothing in {grouped_by} and stand alone")

    def source(part: str, name: str) -> Source:
        rows = [row for row, its_part in enumerate(parts) if its_part == part]
        check(part, rows)
        names, numbers = number_classes([labels[row] for row in rows])
        part_table = table.take(np.array(rows, dtype=np.int64))
        return Source(name, names, part_table.with_labels(numbers))

    place = f"column {split!r}"
    whole = replace(
        source("train", name),
        places={"train": place} if {*parts} > {"train"} else {},
        left_out=left_out,
        grouped_by=grouped_by,
    )
    for part in ("test", "validation"):
        if part in parts:
            whole = with_part(whole, part, source(part, f"{name}, {part}"), place=place)
    return replace(whole, notes=(*notes, *whole.notes))


def _parts(
    sheet: Sheet, column: str | None, *, is_asked: bool
) -> tuple[list[str], tuple[LeftOut, ...], list[str]]:
    """(N,) "train", "test", "validation" or "" of each row; what is left out; and what is odd.

    A column that was not asked for counts if it says which rows are for training.

    Raises:
        DataError: a value that is no name of a part, or none for training.
    """
    values = [] if column is None else [value.lower() for value in sheet.columns[column]]
    found = find_parts(sorted({*values}))
    if found.train is None:
        if is_asked and column is not None:
            there = shortened(sorted({*values}))
            raise DataError(
                f"{sheet.name}: column {column!r} (--split-column) has {there}, and none is train"
            )
        notes = []
        if values and len({*values}) <= _MOST_PARTS:
            there = shortened(sorted({*values}))
            sign = "warning: " if found.held else ""
            notes = [f"{sign}column {column!r} has {there}, and none is train: all rows are taken"]
        return ["train"] * len(sheet.lines), (), notes
    for row, value in enumerate(values):
        if value and part_of(value) is None:
            raise DataError(
                f"{sheet.at(row)}: {sheet.columns[column or ''][row]!r} in column {column!r} is no "
                f"part ({PART_NAMES}; --split-column none takes all rows for training)"
            )
    named = {found.train: "train"} | {name: part for part, name in found.held.items()}
    named |= {value: "train" for value in found.others if part_of(value) == "train"}
    left = Counter(value for value in values if value not in named)
    left_out = tuple(
        LeftOut("rows", f"{value or 'nothing'} in column {column!r}", count)
        for value, count in left.items()
    )
    return [named.get(value, "") for value in values], left_out, []
