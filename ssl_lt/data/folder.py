"""A folder of pictures: class sub-folders, or one flat folder without labels."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.source import TableSource, under_classes_of
from ssl_lt.data.tables import FileTable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})


def open_folder(argument: str, options: SourceOptions) -> TableSource:
    """Lists the pictures of a folder.

    Layouts: `train/` with `test/` or `val/`; or class sub-folders; or pictures without labels.
    Classes are sorted by name, pictures are found at any depth, hidden files are left out.

    Args:
        argument: PATH of `folder:PATH`; empty: the data root.
        options: with the data root.

    Raises:
        DataError: no such folder, no pictures, pictures beside class folders, a class without
            pictures, a test class that is not trained.
    """
    root = Path(argument) if argument else options.root
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of images (--data folder:PATH or --data-root)")
    name = f"folder:{root}"
    parts = {folder.name: folder for folder in _sub_folders(root)}
    test_part = parts.get("test", parts.get("val"))
    # Alone, `train` is a part; beside others that are no test part, it is a class of vehicles.
    if "train" in parts and (test_part is not None or len(parts) == 1):
        class_names, table = _list(parts["train"])
        source = TableSource(name, class_names, table)
        return source if test_part is None else _with_test(source, test_part)
    class_names, table = _list(root)
    return TableSource(name, class_names, table)


def _sub_folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror}") from error


def _pictures(folder: Path) -> list[str]:
    """Names relative to the folder, sorted; links to folders inside it are not followed."""
    found = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(folder)
        found += [str(inside / name) for name in files if _is_picture(name)]
    return sorted(found)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _refuse(error: OSError) -> None:
    """Left to itself, `os.walk` passes over folders it may not read."""
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _list(root: Path) -> tuple[tuple[str, ...], FileTable]:
    """Class names (empty when flat) and files under `root`."""
    classes = _sub_folders(root)
    if not classes:
        names = _pictures(root)
        if not names:
            raise DataError(f"{root}: has no images ({' '.join(sorted(SUFFIXES))})")
        return (), _table(root, names, [-1] * len(names))
    loose = [p.name for p in root.iterdir() if p.is_file() and _is_picture(p.name)]
    if loose:
        raise DataError(f"{root}: has both class folders and loose images such as {min(loose)}")
    names, labels = [], []
    for label, folder in enumerate(classes):
        inside = _pictures(folder)
        if not inside:
            raise DataError(f"{folder}: class folder without images")
        names += [f"{folder.name}/{name}" for name in inside]
        labels += [label] * len(inside)
    return tuple(folder.name for folder in classes), _table(root, names, labels)


def _table(root: Path, names: list[str], labels: list[int]) -> FileTable:
    return FileTable(root, np.array([os.fsencode(name) for name in names]), torch.tensor(labels))


def _with_test(source: TableSource, folder: Path) -> TableSource:
    class_names, table = _list(folder)
    if not (class_names or source.class_names):
        return source
    table = under_classes_of(source, table, class_names, name=str(folder))
    return replace(source, test_table=table)
