"""`csv:FILE`: a table with a column of image files and, where there are labels, one of those."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ssl_lt.core.errors import DataError
from ssl_lt.core.urls import parent
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.columns import image_column, label_column
from ssl_lt.data.sources.listed_files import Listed, listed_table, numbered, read_text
from ssl_lt.data.sources.source import TableSource

_SEPARATORS = (",", ";", "\t")


def open_csv(argument: str, options: SourceOptions) -> TableSource:
    """Lists the images that a CSV names.

    The first line names the columns; commas, semicolons or tabs separate them, whichever is the
    most frequent there. Paths are relative to the data root if it is given, else to the folder of
    the file. Classes are in order of their names, or by value where all are numbers.

    Args:
        argument: path or URL of `csv:FILE`.
        options: with the data root and the columns.

    Raises:
        DataError: no such file, no CSV, a column that is not there, a line with too many or too
            few fields or without a label, and what `listed_table` says; names file and line.
    """
    name = f"csv:{argument}"
    rows = _rows(read_text(argument, name=name), name=name)
    _, header = next(rows, (0, []))
    images = image_column(header, options.image_column, name=name)
    labels = label_column(header, options.label_column, name=name)
    found = []
    for line, fields in rows:
        if len(fields) != len(header):
            raise DataError(
                f"{name}: line {line}: {len(fields)} fields, the first line names {len(header)}"
            )
        row = dict(zip(header, fields, strict=True))
        label = None if labels is None else row[labels].strip()
        if label == "":
            raise DataError(
                f"{name}: line {line}: no label in column {labels!r} "
                "(--label-column none takes all images without labels)"
            )
        found.append(Listed(line, row[images].strip(), label))
    class_names, numbers = numbered([image.label for image in found])
    root = str(options.data_root or parent(argument))
    table = listed_table(name, found, numbers, root=root, options=options)
    return TableSource(name, class_names, table)


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
