"""Images that are objects of a store, one by one, and fetched when they are read."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssl_lt.data.images.decode import read_image
from ssl_lt.data.remote.copies import keep_copy, read_copy
from ssl_lt.data.remote.store import ObjectInfo, StoreFolder, fetch
from ssl_lt.data.tables.table import digest_of_files

# Of a file that is named and not there.
_MISSING = ObjectInfo(-1, "")


@dataclass(frozen=True)
class StoredObject:
    """An image file of a store; it is read as a path is."""

    folder: StoreFolder
    name: str
    about: ObjectInfo

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def is_file(self) -> bool:
        """It is there, as far as the listing says."""
        return self.about.bytes >= 0

    def read_bytes(self) -> bytes:
        """What it holds: from the copy, or else from the store.

        Raises:
            OSError: it is not there, cannot be fetched or has another size by now.
        """
        if not self.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file")
        copy = self.folder.copies.file(f"{self}\n{self.about.bytes}\n{self.about.version}")
        blob = None if copy is None else read_copy(copy, self.about.bytes)
        if blob is None:
            blob = fetch(self.folder.url, self.name)
            if len(blob) != self.about.bytes:
                said = f"has {len(blob)} bytes by now, had {self.about.bytes}"
                raise OSError(errno.EIO, said)
            if copy is not None:
                keep_copy(copy, blob)
        return blob


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """Images of a store; the counterpart of `FileTable`, with the same identity.

    Attributes:
        root: that the names are relative to.
        names: (N,) as in `FileTable`.
        sizes: (N,) int64 bytes; -1 where there is no such object.
        versions: (N,) see `ObjectInfo`.
        labels: (N,) int64, -1 where unknown.
    """

    root: StoreFolder
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    versions: NDArray[np.bytes_]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> StoredObject:
        """Object of one row."""
        about = ObjectInfo(int(self.sizes[row]), self.versions[row].decode())
        return StoredObject(self.root, os.fsdecode(self.names[row]), about)

    def name(self, row: int) -> str:
        """See `EncodedTable`."""
        text: str = self.names[row].decode("utf-8", "backslashreplace")
        return text

    def encoded(self, row: int) -> StoredObject:
        """See `EncodedTable`."""
        return self.path(row)

    def read(self, row: int) -> Image.Image:
        """See `EncodedTable`."""
        return read_image(self.path(row))

    def fingerprint(self) -> str:
        """That of the same files in a folder."""
        return digest_of_files(self.labels, self.names)

    def take(self, rows: NDArray[np.int64]) -> ObjectTable:
        """See `ImageTable`."""
        return replace(
            self,
            names=self.names[rows],
            sizes=self.sizes[rows],
            versions=self.versions[rows],
            labels=self.labels[torch.from_numpy(rows)],
        )


def object_table(
    root: StoreFolder, names: Sequence[str], objects: Mapping[str, ObjectInfo], labels: Tensor
) -> ObjectTable:
    """The objects of these names; those that are not in the listing are missing.

    Args:
        root: that names and listing are relative to.
        names: (N,).
        objects: the listing.
        labels: (N,) int64, -1 where unknown.
    """
    found = [objects.get(name, _MISSING) for name in names]
    return ObjectTable(
        root,
        np.array([os.fsencode(name) for name in names]),
        np.array([about.bytes for about in found], dtype=np.int64),
        np.array([about.version.encode() for about in found]),
        labels,
    )
