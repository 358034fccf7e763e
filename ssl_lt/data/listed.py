"""Image files that a text file names, line by line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.tables import FileTable


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


def read_text(path: Path, *, name: str) -> str:
    """A whole text file.

    Raises:
        DataError: it cannot be read or is not UTF-8; names the source.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte-order mark
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error


def listed_table(name: str, images: Sequence[Listed], labels: Tensor, *, root: Path) -> FileTable:
    """The files, in their order.

    Args:
        name: of the source, for errors.
        images: at least one.
        labels: (N,) int64, -1 where unknown.
        root: folder the paths are relative to; a path may be absolute, but not leave it.

    Raises:
        DataError: no images, a path that is empty, leaves the root or comes twice; names the line.
    """
    if not images:
        raise DataError(f"{name}: names no image")
    lines: dict[str, int] = {}
    for image in images:
        path = _inside(image.path, root, where=f"{name}: line {image.line}")
        if path in lines:
            raise DataError(
                f"{name}: line {image.line}: {image.path} comes twice, first in line {lines[path]}"
            )
        lines[path] = image.line
    table = FileTable(root, np.array([os.fsencode(path) for path in lines]), labels)
    # A wrong folder is said here; single files that are missing, where they are read.
    if not any(table.path(row).is_file() for row in (0, len(table) // 2, len(table) - 1)):
        raise DataError(
            f"{name}: line {images[0].line}: {root} has no file {images[0].path} "
            "(--data-root says where else to look)"
        )
    return table


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


def _inside(text: str, root: Path, *, where: str) -> str:
    """A path relative to the root, in its shortest spelling; links are not followed."""
    relative = os.path.relpath(text, root.absolute()) if Path(text).is_absolute() else text
    path = os.path.normpath(relative)
    if not text or path == ".":
        raise DataError(f"{where}: has no path")
    if path.split(os.sep, 1)[0] == "..":
        raise DataError(f"{where}: {text} leaves the folder {root} (--data-root says which)")
    return path
