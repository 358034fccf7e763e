"""A folder of pictures, on this machine or in an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.core.urls import local_path
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.remote.store import ObjectInfo, StoreFolder, find_objects, open_store
from ssl_lt.data.tables.objects import object_table
from ssl_lt.data.tables.table import EncodedTable, FileTable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})


class Tree(Protocol):
    """A folder; what has a dot in front is not seen. Its text is what people know it by."""

    def folders(self) -> list[str]:
        """Names of its sub-folders, sorted."""

    def pictures(self) -> list[str]:
        """Names relative to it, sorted, of pictures at any depth."""

    def loose(self) -> list[str]:
        """Those that are in no sub-folder."""

    def below(self, folder: str) -> Tree:
        """A sub-folder."""

    def table(self, names: list[str], labels: list[int]) -> EncodedTable:
        """Pictures by their names."""


def open_tree(place: str, options: SourceOptions, *, source: str) -> Tree:
    """The folder at a path or URL.

    Raises:
        ConfigError: an unknown kind of URL, or one whose package is not installed.
        DataError: there is no such folder, or a store that cannot be listed.
    """
    path = local_path(place, of=source)
    if path is None:
        found = find_objects(place, source=source)
        objects = {name: about for name, about in found.items() if not _is_hidden(name)}
        if objects:
            pictures = {name: about for name, about in objects.items() if _is_picture(name)}
            folder = open_store(place, pictures, options, source=source)
            return StoreTree(folder, list(objects), objects)
    elif path.is_dir():
        return LocalTree(path)
    raise DataError(f"{place}: no such folder of images (--data folder:PATH or --data-root)")


@dataclass(frozen=True)
class LocalTree:
    """A folder of this machine; links to folders inside a class are not followed."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def folders(self) -> list[str]:
        """See `Tree`."""
        try:
            return sorted(p.name for p in self.root.iterdir() if p.is_dir() and p.name[0] != ".")
        except OSError as error:
            raise DataError(f"{self.root}: cannot be read: {error.strerror}") from error

    def pictures(self) -> list[str]:
        """See `Tree`."""
        found = []
        for place, folders, files in os.walk(self.root, onerror=_refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = Path(place).relative_to(self.root)
            found += [str(inside / name) for name in files if _is_visible_picture(name)]
        return sorted(found)

    def loose(self) -> list[str]:
        """See `Tree`."""
        names = (path.name for path in self.root.iterdir() if path.is_file())
        return sorted(name for name in names if _is_visible_picture(name))

    def below(self, folder: str) -> LocalTree:
        """See `Tree`."""
        return LocalTree(self.root / folder)

    def table(self, names: list[str], labels: list[int]) -> FileTable:
        """See `Tree`."""
        files = np.array([os.fsencode(name) for name in names])
        return FileTable(self.root, files, torch.tensor(labels))


@dataclass(frozen=True, eq=False)
class StoreTree:
    """A place in a store, which has no folders but what the names of its objects say.

    Attributes:
        root: the place.
        names: of what is below it, relative to it and sorted.
        objects: by their names relative to the place that was listed.
        prefix: of `names` there.
    """

    root: StoreFolder
    names: list[str]
    objects: Mapping[str, ObjectInfo]
    prefix: str = ""

    def __str__(self) -> str:
        return str(self.root)

    @cached_property
    def _by_folder(self) -> dict[str, list[str]]:
        # "a-b/c" comes before "a/b" in order of names, but what is below a folder stands together.
        deeper = (name.partition("/") for name in self.names if "/" in name)
        parts = groupby(deeper, key=lambda part: part[0])
        return {folder: [rest for _, _, rest in found] for folder, found in parts}

    def folders(self) -> list[str]:
        """See `Tree`."""
        return sorted(self._by_folder)

    def pictures(self) -> list[str]:
        """See `Tree`."""
        return [name for name in self.names if _is_picture(name)]

    def loose(self) -> list[str]:
        """See `Tree`."""
        return [name for name in self.pictures() if "/" not in name]

    def below(self, folder: str) -> StoreTree:
        """See `Tree`."""
        inside = self._by_folder[folder]
        return StoreTree(self.root / folder, inside, self.objects, f"{self.prefix}{folder}/")

    def table(self, names: list[str], labels: list[int]) -> EncodedTable:
        """See `Tree`."""
        objects = {name: self.objects[self.prefix + name] for name in names}
        return object_table(self.root, names, objects, torch.tensor(labels))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _is_visible_picture(name: str) -> bool:
    return not name.startswith(".") and _is_picture(name)


def _refuse(error: OSError) -> None:
    """Left to itself, `os.walk` passes over folders it may not read."""
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
