"""A folder of pictures: class sub-folders, or one flat folder without labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.data.long_tail import subsample
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.tables import FileTable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})

_HELD_OUT = 0.2
_HELD_OUT_SEED = 0


@dataclass(frozen=True)
class FolderSource:
    """Files under a folder; see `open_folder` for the layouts."""

    name: str
    class_names: tuple[str, ...]
    train_table: FileTable
    test_table: FileTable | None
    # ImageNet's: what weights from elsewhere were trained with, and close to any photographs'.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    image_size: int | None = None
    imbalance_factor: float | None = None

    def train(self) -> FileTable:
        """Files to learn from."""
        return self.train_table

    def test(self) -> FileTable | None:
        """Files to test on; None for a folder without labels."""
        return self.test_table


def open_folder(argument: str, options: SourceOptions) -> FolderSource:
    """Lists the pictures of a folder.

    Layouts: `train/` with `test/` or `val/`; or class sub-folders, of which a fifth of each class
    is held out for testing (at least one image where a class has two; always the same ones, so
    that runs with different splits are tested on the same images); or pictures without labels.
    Classes are sorted by name, pictures are found at any depth, hidden files are left out.

    Args:
        argument: PATH of `folder:PATH`; empty: the data root.
        options: with the data root.

    Raises:
        DataError: no such folder, no pictures, pictures beside class folders, a class without
            pictures, a test class that is not trained.
    """
    root = Path(argument) if argument else options.data_root
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of images (--data folder:PATH or --data-root)")
    name = f"folder:{root}"
    parts = {folder.name: folder for folder in _sub_folders(root)}
    test_part = parts.get("test", parts.get("val"))
    # Alone, `train` is a part; beside others that are no test part, it is a class of vehicles.
    if "train" in parts and (test_part is not None or len(parts) == 1):
        class_names, table = _list(parts["train"])
        if test_part is not None:
            return FolderSource(name, class_names, table, _test(test_part, class_names))
    else:
        class_names, table = _list(root)
    if not class_names:
        return FolderSource(name, (), table, None)
    return FolderSource(name, class_names, *_hold_out(table, num_classes=len(class_names)))


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


def _test(root: Path, class_names: tuple[str, ...]) -> FileTable | None:
    """Files of the test part under the labels of the training part."""
    names, table = _list(root)
    unknown = sorted(set(names) - set(class_names))
    if unknown:
        raise DataError(f"{root / unknown[0]}: a test class that has no training folder")
    if not names:
        if class_names:
            raise DataError(f"{root}: has no class folders, the training part has")
        return None
    label_of = torch.tensor([class_names.index(name) for name in names])
    return FileTable(table.root, table.names, label_of[table.labels])


def _hold_out(table: FileTable, *, num_classes: int) -> tuple[FileTable, FileTable | None]:
    """Splits off a test set, class by class."""
    labels = table.labels.numpy()
    sizes = np.bincount(labels, minlength=num_classes)
    counts = [max(1, int(_HELD_OUT * size)) if size > 1 else 0 for size in sizes]
    if not any(counts):
        return table, None
    test_rows = np.sort(subsample(labels, counts, seed=_HELD_OUT_SEED))
    train_rows = np.setdiff1d(np.arange(len(table)), test_rows)
    return table.take(train_rows), table.take(test_rows)
