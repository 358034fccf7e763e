"""`list:FILE`: image files that a text file names, line by line, as `csv:FILE` does."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_lt.core.disk.files import exists
from ssl_lt.core.disk.urls import local_path, without_secret
from ssl_lt.core.errors import DataError, short_path
from ssl_lt.data.images.formats import has_image_suffix
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.labels import ONE_CLASS
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.finder import FileFinder

# The path may have blanks in it: the label is a whole number at the end of the line.
_LINE = re.compile(r"(?P<path>.*?)(?:\s+(?P<label>\d+))?\s*")
_SLASH = re.compile(r"[/\\]")
_ELSEWHERE = re.compile(r"\w+://|[A-Za-z]:\\")  # a URL, or a drive of Windows
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
        DataError: no such file, a line without a label among lines with one, and what
            `file_table` says; names file and line.
    """
    name = f"list:{argument}"
    images = []
    for number, line in enumerate(read_text(argument, name=name).split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None or not line.strip():
            continue
        _check_one_number(match["path"], where=f"{name}: line {number}")
        images.append(Listed(number, match["path"], match["label"]))
        if (images[-1].label is None) != (images[0].label is None):
            has, first = ("a", "none") if images[0].label is None else ("no", "one")
            raise DataError(
                f"{name}: line {number}: has {has} label, line {images[0].line} has {first}"
            )
        if int(match["label"] or 0) >= _MOST_CLASSES:
            raise DataError(f"{name}: line {number}: label {match['label']} is too large")
    finder = FileFinder(root_of(argument, options))
    table = file_table(name, finder, images)
    labels = torch.tensor([-1 if image.label is None else int(image.label) for image in images])
    num_classes = int(labels.max()) + 1
    return Source(
        name,
        tuple(str(label) for label in range(num_classes)),
        table.with_labels(labels),
        labels_from="the number at the end of each line",
        notes=tuple(finder.notes),
    )


def _check_one_number(path: str, *, where: str) -> None:
    """Raises DataError where numbers follow the name of an image: all but the last label."""
    file, _, number = path.rstrip("0123456789 \t").rpartition(".")
    rest = path[len(file) + 1 + len(number) :] if file else ""
    if rest.strip() and rest[0].isspace() and has_image_suffix(f"a.{number}"):
        raise DataError(f"{where}: has several labels after {file}.{number}: {ONE_CLASS}")


def root_of(file: str, options: SourceOptions) -> Path:
    """What the paths in a text file are relative to."""
    return Path(file).parent if options.data_root is None else options.root


def read_text(place: str, *, name: str) -> str:
    """A whole text file, in UTF-8 or, as its first bytes then say, UTF-16.

    Raises:
        ConfigError, DataError: a URL; no such file, or it cannot be read as text.
    """
    try:
        content = local_path(place, of=name).read_bytes()
        # Spreadsheets write a byte-order mark.
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error


def file_table(
    name: str, finder: FileFinder, images: Sequence[Listed], *, unit: str = "line"
) -> FileTable:
    """The files, in their order, without labels.

    Args:
        name: of the source, for errors.
        finder: of the folder that paths are relative to.
        images: what the text file names.
        unit: what `Listed.line` numbers.

    Raises:
        DataError: no images, a path that is empty, leaves the root or comes twice, or a root with
            none of the files that were tried; names the line.
    """
    if not images:
        raise DataError(f"{name}: names no image")
    root = finder.root
    first: dict[str, Listed] = {}
    for image in images:
        where = f"{name}: {unit} {image.line}"
        path = finder.find(_inside(image, root, where=where), where=where)
        known = first.setdefault(path, image)
        if known is not image:
            both = f", as {known.label!r} and as {image.label!r}: {ONE_CLASS}"
            raise DataError(
                f"{where}: {without_secret(image.path)} comes twice, first in {unit} {known.line}"
                f"{both if known.label != image.label else ''}"
            )
    names = np.array([os.fsencode(path) for path in first])
    table = FileTable(root, names, torch.full((len(names),), -1))
    # A wrong folder is said here; single files that are missing, where they are read.
    tried = [table.path(row) for row in (0, len(table) // 2, len(table) - 1)]
    if not any(exists(path) and path.is_file() for path in tried):
        file = short_path(without_secret(images[0].path))
        raise DataError(
            f"{name}: {unit} {images[0].line}: {root} has no file {file} "
            "(--data-root says where else to look)"
        )
    return table


def _inside(image: Listed, root: Path, *, where: str) -> str:
    """A path relative to the root, in its shortest spelling; links are not followed."""
    text = image.path
    relative = os.path.relpath(text, root.absolute()) if text.startswith(os.sep) else text
    path = os.path.normpath(relative)
    if not text or path == ".":
        raise DataError(f"{where}: has no path")
    is_above = path.startswith("..") and _SLASH.split(path)[0] == ".."
    if is_above or (":" in text and _ELSEWHERE.match(text)):
        raise DataError(
            f"{where}: {without_secret(text)} leaves the folder {root} (--data-root says which)"
        )
    return path
