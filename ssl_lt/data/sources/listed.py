"""`csv:FILE` and `list:FILE`: image files that a text file names, line by line."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.disk.urls import local_path, without_secret
from ssl_lt.core.errors import DataError
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.columns import image_column, label_column
from ssl_lt.data.sources.source import Source, number_classes
from ssl_lt.data.tables.files import FileTable

_SEPARATORS = (",", ";", "\t")
# The path may have blanks in it: the label is a whole number at the end of the line.
_LINE = re.compile(r"(?P<path>.*?)(?:\s+(?P<label>\d+))?\s*")
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True, slots=True)
class Listed:
    """One image.

    Attributes:
        line: of the text file, from 1.
        path: as it stands there.
        label: as it stands there; None where there are no labels.
    """

    line: int
    path: str
    label: str | None


def open_csv(argument: str, options: SourceOptions) -> Source:
    """Lists the images that a CSV names.

    The first line names the columns; commas, semicolons or tabs separate them, whichever is the
    most frequent there. Paths are relative to the data root if it is given, else to the folder of
    the file. Classes are in order of their names, or by value where all are numbers.

    Args:
        argument: path of `csv:FILE`.
        options: with the data root and the columns.

    Raises:
        ConfigError: the path is a URL.
        DataError: no such file, no CSV, a column that is not there, a line with too many or too
            few fields or without a label, and what `_table` says; names file and line.
    """
    name = f"csv:{argument}"
    rows = _rows(_read_text(argument, name=name), name=name)
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
    class_names, numbers = number_classes([image.label for image in found])
    return Source(name, class_names, _table(name, argument, found, numbers, options))


def open_list(argument: str, options: SourceOptions) -> Source:
    """Lists the images of a text file, as ImageNet-LT, Places-LT and iNaturalist publish them.

    A line is a path and a label from 0 on, or a path alone: then all are without labels. Paths are
    relative to the data root if it is given, else to the folder of the file. Classes are named by
    their numbers, from 0 to the largest label.

    Args:
        argument: path of `list:FILE`.
        options: with the data root.

    Raises:
        ConfigError: the path is a URL.
        DataError: no such file, a line without a label among lines with one, and what `_table`
            says; names file and line.
    """
    name = f"list:{argument}"
    images = []
    for number, line in enumerate(_read_text(argument, name=name).split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None or not line.strip():
            continue
        images.append(Listed(number, match["path"], match["label"]))
        if (images[-1].label is None) != (images[0].label is None):
            has, first = ("a", "none") if images[0].label is None else ("no", "one")
            raise DataError(
                f"{name}: line {number}: has {has} label, line {images[0].line} has {first}"
            )
        if int(match["label"] or 0) >= _MOST_CLASSES:
            raise DataError(f"{name}: line {number}: label {match['label']} is too large")
    labels = torch.tensor([-1 if image.label is None else int(image.label) for image in images])
    table = _table(name, argument, images, labels, options)
    num_classes = int(labels.max()) + 1
    return Source(name, tuple(str(label) for label in range(num_classes)), table)


def _read_text(place: str, *, name: str) -> str:
    """A whole text file."""
    try:
        # Spreadsheets write a byte-order mark.
        return local_path(place, of=name).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error


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


def _table(
    name: str, file: str, images: Sequence[Listed], labels: Tensor, options: SourceOptions
) -> FileTable:
    """The files, in their order.

    Raises:
        DataError: no images, a path that is empty, leaves the root or comes twice, or a root with
            none of the files that were tried; names the line.
    """
    if not images:
        raise DataError(f"{name}: names no image")
    root = Path(file).parent if options.data_root is None else options.root
    lines: dict[str, int] = {}
    for image in images:
        path = _inside(image, root, name=name)
        if path in lines:
            raise DataError(
                f"{name}: line {image.line}: {without_secret(image.path)} comes twice, first in "
                f"line {lines[path]}"
            )
        lines[path] = image.line
    table = FileTable(root, np.array([os.fsencode(path) for path in lines]), labels)
    # A wrong folder is said here; single files that are missing, where they are read.
    if not any(table.path(row).is_file() for row in (0, len(table) // 2, len(table) - 1)):
        raise DataError(
            f"{name}: line {images[0].line}: {root} has no file {without_secret(images[0].path)} "
            "(--data-root says where else to look)"
        )
    return table


def _inside(image: Listed, root: Path, *, name: str) -> str:
    """A path relative to the root, in its shortest spelling; links are not followed."""
    where, text = f"{name}: line {image.line}", image.path
    relative = os.path.relpath(text, root.absolute()) if Path(text).is_absolute() else text
    path = os.path.normpath(relative)
    if not text or path == ".":
        raise DataError(f"{where}: has no path")
    if path.split(os.sep, 1)[0] == ".." or "://" in text:
        raise DataError(
            f"{where}: {without_secret(text)} leaves the folder {root} (--data-root says which)"
        )
    return path
