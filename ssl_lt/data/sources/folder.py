"""`folder:PATH`: class sub-folders, or one flat folder without labels."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssl_lt.core.disk.urls import local_path
from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import SUFFIXES
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.source import Source, align_labels, eval_splits
from ssl_lt.data.tables.files import FileTable


def open_folder(argument: str, options: SourceOptions) -> Source:
    """Lists the images of a folder.

    Layouts: `train/` with `test/` or `val/`, or both; or class sub-folders; or images without
    labels. Classes are sorted by name and images are found at any depth. Hidden files are left out,
    and links to folders inside a class are not followed.

    Args:
        argument: PATH of `folder:PATH`; empty: the data root.
        options: with the data root.

    Raises:
        ConfigError: the path is a URL.
        DataError: no such folder, no images, images beside class folders, a class without images,
            a test or validation class that has no training images.
    """
    root = local_path(argument, of=f"folder:{argument}") if argument else options.root
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of images (--data folder:PATH or --data-root)")
    name, parts = f"folder:{root}", set(_sub_folders(root))
    test, validation = eval_splits(parts & {"test", "val"})
    # Alone, `train` is a part; beside others that are no test part, it is a class of vehicles.
    if "train" not in parts or not (test or len(parts) == 1):
        return Source(name, *_list(root))
    source = Source(name, *_list(root / "train"))
    return replace(
        source,
        test=_part(source, root, test),
        validation=_part(source, root, validation),
    )


def _list(root: Path) -> tuple[tuple[str, ...], FileTable]:
    """Class names (empty when flat) and files."""
    classes = _sub_folders(root)
    if not classes:
        names = _images(root)
        if not names:
            raise DataError(f"{root}: has no images ({' '.join(sorted(SUFFIXES))})")
        return (), _table(root, names, [-1] * len(names))
    loose = sorted(path.name for path in root.iterdir() if path.is_file() and _is_image(path.name))
    if loose:
        raise DataError(f"{root}: has both class folders and loose images such as {loose[0]}")
    names, labels = [], []
    for label, folder in enumerate(classes):
        images = _images(root / folder)
        if not images:
            raise DataError(f"{root / folder}: class folder without images")
        names += [f"{folder}/{name}" for name in images]
        labels += [label] * len(images)
    return tuple(classes), _table(root, names, labels)


def _part(source: Source, root: Path, name: str | None) -> FileTable | None:
    """The test or validation part; None where there is none, or nothing has labels."""
    if name is None:
        return None
    class_names, table = _list(root / name)
    if not (class_names or source.class_names):
        return None
    return align_labels(source, table, class_names, name=str(root / name))


def _sub_folders(root: Path) -> list[str]:
    try:
        return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror}") from error


def _images(root: Path) -> list[str]:
    """Names relative to a folder, sorted, of the images at any depth."""
    found = []
    for place, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(root)
        found += [str(inside / name) for name in files if _is_image(name)]
    return sorted(found)


def _table(root: Path, names: list[str], labels: list[int]) -> FileTable:
    return FileTable(root, np.array([os.fsencode(name) for name in names]), torch.tensor(labels))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _refuse(error: OSError) -> None:
    """Left to itself, `os.walk` passes over folders it may not read."""
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
