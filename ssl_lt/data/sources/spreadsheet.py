"""`csv:FILE`: image files in a table, one a row, with their labels and parts."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_lt.core.errors import DataError, shortened
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.columns import (
    NO_LABELS,
    image_column,
    label_columns,
    no_label_hint,
    split_column,
)
from ssl_lt.data.sources.labels import ONE_CLASS, check_one_label_each, number_classes
from ssl_lt.data.sources.listed import Listed, file_table, read_text, root_of
from ssl_lt.data.sources.parts import PART_NAMES, LeftOut, find_parts, part_of
from ssl_lt.data.sources.source import Source, with_part
from ssl_lt.data.tables.finder import FileFinder

_SEPARATORS = (",", ";", "\t")
_ONE = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_MOST_PARTS = 10  # a column with more values says something else
_UNLABELLED = "(--label-column none takes all images without labels)"


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        name: of the source.
        columns: name -> (N,) fields without blanks around them; of the columns that are kept.
        lines: (N,) where each row ends in the file, from 1.
    """

    name: str
    columns: dict[str, list[str]]
    lines: list[int]

    def at(self, row: int) -> str:
        """Where a row stands, for errors."""
        return f"{self.name}: line {self.lines[row]}"


def open_csv(argument: str, options: SourceOptions) -> Source:
    """Lists the images that a CSV names.

    The first line names the columns; commas, semicolons or tabs separate them, whichever is the
    most frequent there. Paths are relative to the data root if it is given, else to the folder of
    the file. Labels stand in a column, or as a 1 in one of several. Classes are in order of their
    names, or by value where all are numbers.

    Args:
        argument: path of `csv:FILE`.
        options: with the data root and the columns.

    Raises:
        ConfigError: the path is a URL.
        DataError: no such file, no CSV, a column that is not there, a line with too many or too
            few fields, without a label or with several, a part that is none, and what `file_table`
            says; names file and line.
    """
    name = f"csv:{argument}"
    rows = _rows(read_text(argument, name=name), name=name)
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(f"{name}: is empty")
    images = image_column(header, options.image_column, name=name)
    split = split_column(header, options.split_column, name=name)
    columns = label_columns(header, options.label_column, name=name)
    kept = {images, *columns} | {split or images}
    may_be_one_hot = not columns and options.label_column is None
    sheet = _sheet(name, header, sorted({*header} if may_be_one_hot else kept), rows)
    if may_be_one_hot:
        columns = _one_hot(sheet, [c for c in header if header.count(c) == 1 and c not in kept])
    for column in {*kept, *columns}:
        if header.count(column) > 1:
            raise DataError(f"{name}: has {header.count(column)} columns named {column!r}")
    labels = _labels(sheet, columns)
    check_one_label_each(labels, sheet.at)
    found = zip(sheet.lines, sheet.columns[images], labels, strict=True)
    listed = [Listed(line, path, label) for line, path, label in found]
    parts, left_out, notes = _parts(sheet, split, is_asked=options.split_column is not None)
    finder = FileFinder(root_of(argument, options))
    table = file_table(name, finder, listed)

    def source(part: str, name: str) -> Source:
        rows = [row for row, its_part in enumerate(parts) if its_part == part]
        _check_labelled(name, [listed[row] for row in rows], columns, must=part == "train")
        names, numbers = number_classes([labels[row] for row in rows])
        return Source(name, names, table.take(np.array(rows)).with_labels(numbers))

    place = f"column {split!r}"
    whole = replace(
        source("train", name),
        labels_from=_labels_from(columns, header, options.label_column),
        places={"train": place} if {*parts} > {"train"} else {},
        left_out=left_out,
    )
    for part in ("test", "validation"):
        if part in parts:
            whole = with_part(whole, part, source(part, f"{name}, {part}"), place=place)
    empty = [c for c in columns if len(columns) > 1 and c not in whole.class_names]
    if empty:
        notes.append(f"no image has a 1 in {shortened(empty)}: no class is made of that")
    return replace(whole, notes=(*notes, *whole.notes, *finder.notes))


def _sheet(
    name: str, header: list[str], kept: list[str], rows: Iterator[tuple[int, list[str]]]
) -> Sheet:
    """Reads the columns that are kept.

    Raises:
        DataError: a line with too many or too few fields; names it.
    """
    places = {column: header.index(column) for column in kept}
    columns: dict[str, list[str]] = {column: [] for column in kept}
    lines = []
    for line, fields in rows:
        if len(fields) < len(header) or any(field.strip() for field in fields[len(header) :]):
            raise DataError(
                f"{name}: line {line}: {len(fields)} fields, the first line names {len(header)}"
            )
        lines.append(line)
        for column, place in places.items():
            columns[column].append(sys.intern(fields[place].strip()))
    return Sheet(name, columns, lines)


def _one_hot(sheet: Sheet, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of zeros and ones, where each row has a single one; none otherwise."""
    binary = [c for c in columns if all(value.lower() in _ONE for value in sheet.columns[c])]
    ones = [[_ONE[value.lower()] for value in sheet.columns[c]] for c in binary]
    is_single = all(sum(row) == 1 for row in zip(*ones, strict=True))
    return tuple(binary) if len(binary) > 1 and sheet.lines and is_single else ()


def _labels(sheet: Sheet, columns: tuple[str, ...]) -> list[str | None]:
    """(N,) labels, None where there is none.

    Raises:
        DataError: among columns of zeros and ones something else, or several ones in a row.
    """
    if len(columns) < 2:
        texts = sheet.columns[columns[0]] if columns else [""] * len(sheet.lines)
        return [text or None for text in texts]
    labels: list[str | None] = []
    for row in range(len(sheet.lines)):
        values = {column: sheet.columns[column][row] for column in columns}
        odd = [column for column, value in values.items() if value.lower() not in _ONE]
        if odd:
            text = f"{values[odd[0]]!r} in column {odd[0]!r}"
            raise DataError(f"{sheet.at(row)}: {text} is no 0 or 1 (--label-column)")
        several = [column for column, value in values.items() if _ONE[value.lower()]]
        if len(several) > 1:
            raise DataError(f"{sheet.at(row)}: has a 1 for {shortened(several)}: {ONE_CLASS}")
        labels.append(several[0] if several else None)
    return labels


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
            notes = [f"column {column!r} has {there}, and none is train: all rows are taken"]
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


def _check_labelled(
    name: str, rows: Sequence[Listed], columns: tuple[str, ...], *, must: bool
) -> None:
    """Refuses a row without a label among others with one, or where there must be one."""
    missing = [image for image in rows if image.label is None]
    if columns and missing and (must or len(missing) < len(rows)):
        where = f"column {columns[0]!r}" if len(columns) == 1 else "any column of --label-column"
        raise DataError(f"{name}: line {missing[0].line}: no label in {where} {_UNLABELLED}")


def _labels_from(columns: tuple[str, ...], header: Sequence[str], asked: str | None) -> str:
    if len(columns) == 1:
        return f"column {columns[0]!r}"
    if columns:
        return f"a 1 in one of the columns {shortened(columns)}"
    return "" if asked == NO_LABELS else no_label_hint(header)


def _rows(text: str, *, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not blank."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(_SEPARATORS, key=first.count))
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise DataError(f"{name}: line {reader.line_num}: {error}") from error
