"""`csv:FILE`: image files in a table, one a row, with their labels and parts."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from ssl_lt.core.errors import DataError, shortened
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.columns import (
    NO_LABELS,
    image_column,
    label_columns,
    no_label_hint,
)
from ssl_lt.data.sources.labels import ONE_CLASS, check_one_label_each
from ssl_lt.data.sources.listed import Listed, file_table, read_text, root_of
from ssl_lt.data.sources.parts import part_within
from ssl_lt.data.sources.sheet import Sheet, part_columns, source_of_sheet
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.finder import FileFinder

_SEPARATORS = (",", ";", "\t", "|")
_ONE = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_UNLABELLED = "(--label-column none takes all images without labels)"


def open_csv(argument: str, options: SourceOptions) -> Source:
    """Lists the images that a CSV names.

    The first line names the columns; commas, semicolons, tabs or bars separate them, whichever is
    the most frequent there. Paths are relative to the data root if it is given, else to the folder
    of the file. Labels stand in a column, or as a 1 in one of several. Classes are in order of
    their names, or by value where all are numbers.

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
    others = part_columns(header, options, name=name)
    columns = label_columns(header, options.label_column, name=name)
    kept = {images, *columns} | others.kept
    may_be_one_hot = not columns and options.label_column is None
    sheet = _sheet(name, header, kept, rows, may_be_one_hot=may_be_one_hot)
    rest = {column: texts for column, texts in sheet.columns.items() if column not in kept}
    others = part_columns(header, options, name=name, texts=rest)
    kept |= others.kept
    if may_be_one_hot:
        columns = _one_hot(
            sheet, [c for c in header if header.count(c) == 1 and c in {*rest} - kept]
        )
    for column in {*kept, *columns}:
        if header.count(column) > 1:
            raise DataError(f"{name}: has {header.count(column)} columns named {column!r}")
    labels = _labels(sheet, columns)
    check_one_label_each(labels, sheet.at)
    found = zip(sheet.lines, sheet.columns[images], labels, strict=True)
    listed = [Listed(line, path, label) for line, path, label in found]
    finder = FileFinder(root_of(argument, options))
    source = source_of_sheet(
        sheet,
        file_table(name, finder, listed),
        labels,
        others,
        options,
        check=partial(_check_labelled, sheet, labels, columns),
    )
    notes = [*source.notes, *_unread(header, {*kept, *columns})]
    empty = [c for c in columns if len(columns) > 1 and c not in source.class_names]
    if empty:
        notes.insert(0, f"no image has a 1 in {shortened(empty)}: no class is made of that")
    return replace(
        source,
        labels_from=_labels_from(columns, header, options.label_column),
        notes=(*notes, *finder.notes),
    )


def _sheet(
    name: str,
    header: list[str],
    kept: set[str],
    rows: Iterator[tuple[int, list[str]]],
    *,
    may_be_one_hot: bool,
) -> Sheet:
    """Reads the columns that are kept, and others as long as they may say parts or be one-hot.

    Raises:
        DataError: a line with too many or too few fields; names it.
    """
    places = {column: header.index(column) for column in sorted({*header})}
    columns: dict[str, list[str]] = {column: [] for column in places}
    lines = []
    for line, fields in rows:
        if len(fields) < len(header) or any(field.strip() for field in fields[len(header) :]):
            raise DataError(
                f"{name}: line {line}: {len(fields)} fields, the first line names {len(header)}"
            )
        lines.append(line)
        for column, place in [*places.items()]:
            value = fields[place].strip()
            other = column not in kept and not part_within(value)[0]
            if other and not (may_be_one_hot and value.lower() in _ONE):
                del places[column], columns[column]
            else:
                columns[column].append(sys.intern(value))
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


def _check_labelled(
    sheet: Sheet,
    labels: Sequence[str | None],
    columns: tuple[str, ...],
    part: str,
    rows: Sequence[int],
) -> None:
    """Refuses a row without a label among others with one, or where there must be one."""
    missing = [row for row in rows if labels[row] is None]
    if columns and missing and (part == "train" or len(missing) < len(rows)):
        where = f"column {columns[0]!r}" if len(columns) == 1 else "any column of --label-column"
        # Of another part the name is given, as of another file.
        name = sheet.name if part == "train" else f"{sheet.name}, {part}"
        raise DataError(
            f"{name}: line {sheet.lines[missing[0]]}: no label in {where} {_UNLABELLED}"
        )


def _unread(header: Sequence[str], read: set[str]) -> list[str]:
    """Columns whose names say that they tell training images, as "is_train" with 0 and 1."""
    return [
        f"column {column!r} is not read: --split-column takes words such as train, val and test"
        for column in header
        if column not in read and part_within(column)[0] == "train"
    ]


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
