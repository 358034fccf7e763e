"""Image files that a text file names, line by line."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.core.urls import local_path, parent, without_slash
from ssl_lt.data.options import SourceOptions, without_secret
from ssl_lt.data.remote.store import fetch, find_objects, open_store
from ssl_lt.data.tables.objects import ObjectTable, object_table
from ssl_lt.data.tables.table import FileTable


@dataclass(frozen=True, slots=True)
class Listed:
    """One image.

    Attributes:
        line: of the text file, from 1.
        path: as it stands there.
        label: likewise; None where there are no labels.
    """

    line: int
    path: str
    label: str | None


def read_text(place: str, *, name: str) -> str:
    """A whole text file, by its path or URL.

    Raises:
        ConfigError: an unknown kind of URL, or one whose package is not installed.
        DataError: it cannot be read or is not UTF-8; names the source.
    """
    path = local_path(place, of=name)
    try:
        blob = fetch(place) if path is None else path.read_bytes()
        # Spreadsheets write a byte-order mark.
        return io.TextIOWrapper(io.BytesIO(blob), encoding="utf-8-sig").read()
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error


def listed_table(
    name: str, images: Sequence[Listed], labels: Tensor, *, root: str, options: SourceOptions
) -> FileTable | ObjectTable:
    """The files, in their order.

    Args:
        name: of the source, for errors.
        images: at least one.
        labels: (N,) int64, -1 where unknown.
        root: folder or URL the paths are relative to; one may be absolute, but not leave it.
        options: of the source.

    Raises:
        ConfigError: an unknown kind of URL, or one whose package is not installed.
        DataError: no images, a path that is empty, leaves the root or comes twice, a store that
            cannot be listed; names the line.
    """
    if not images:
        raise DataError(f"{name}: names no image")
    folder, root = local_path(root, of=f"{name}: --data-root {root}"), without_slash(root)
    lines: dict[str, int] = {}
    for image in images:
        path = _inside(image, root if folder is None else folder, name=name)
        if path in lines:
            raise DataError(
                f"{name}: line {image.line}: {without_secret(image.path)} comes twice, first in "
                f"line {lines[path]}"
            )
        lines[path] = image.line
    table: FileTable | ObjectTable
    if folder is None:
        table = _in_store(list(lines), labels, root=root, options=options, name=name)
    else:
        table = FileTable(folder, np.array([os.fsencode(path) for path in lines]), labels)
    # A wrong folder is said here; single files that are missing, where they are read.
    if not any(table.path(row).is_file() for row in (0, len(table) // 2, len(table) - 1)):
        raise DataError(
            f"{name}: line {images[0].line}: {folder or root} has no file "
            f"{without_secret(images[0].path)} (--data-root says where else to look)"
        )
    return table


def _in_store(
    paths: list[str], labels: Tensor, *, root: str, options: SourceOptions, name: str
) -> ObjectTable:
    # Of a bucket only the folder that has all of them is listed.
    common = os.path.commonpath([parent(path) for path in paths])
    below = f"{common}/" if common else ""
    found = find_objects(f"{root}/{below}", source=name)
    found = {below + path: about for path, about in found.items()}
    wanted = {path: found[path] for path in paths if path in found}
    folder = open_store(root, wanted, options, source=name)
    return object_table(folder, paths, wanted, labels)


def numbered(labels: Sequence[str | int | None]) -> tuple[tuple[str, ...], Tensor]:
    """Class names in order and (N,) int64 labels; numbers are in order by value.

    None stands for an unknown label: -1.
    """
    texts = [None if label is None else str(label) for label in labels]
    known = {text for text in texts if text is not None}
    all_numbers = all(re.fullmatch(r"\d+", text) for text in known)
    class_names = tuple(sorted(known, key=(lambda t: (int(t), t)) if all_numbers else None))
    number_of: dict[str | None, int] = {text: number for number, text in enumerate(class_names)}
    return class_names, torch.tensor([number_of.get(text, -1) for text in texts])


def _inside(image: Listed, root: Path | str, *, name: str) -> str:
    """A path relative to the root, in its shortest spelling; links are not followed."""
    where, text = f"{name}: line {image.line}", image.path
    relative = text
    if isinstance(root, str):
        relative = text.removeprefix(f"{root}/")
    elif Path(text).is_absolute():
        relative = os.path.relpath(text, root.absolute())
    path = os.path.normpath(relative)
    if not text or path == ".":
        raise DataError(f"{where}: has no path")
    if path.split(os.sep, 1)[0] in ("..", "") or "://" in relative:
        raise DataError(
            f"{where}: {without_secret(text)} leaves the folder {root} (--data-root says which)"
        )
    return path
