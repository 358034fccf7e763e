"""Image tables: what a source holds, row by row."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssl_lt.data.images.decode import EncodedImage, ReadableFile, read_bytes, read_image


class ImageTable(Protocol):
    """Rows of images that need not be decoded yet."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, -1 where unknown."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """SHA-256 that differs when rows were added, removed or put in another order."""

    def take(self, rows: NDArray[np.int64]) -> PixelTable | EncodedTable:
        """The table of these rows, in this order; packed pixels are decoded here."""


class EncodedTable(Protocol):
    """Images of any size that are decoded one by one; must be picklable, as workers hold copies."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, -1 where unknown."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """See `ImageTable`."""

    def take(self, rows: NDArray[np.int64]) -> EncodedTable:
        """See `ImageTable`; decodes nothing."""

    def name(self, row: int) -> str:
        """What people find the image of a row by: a file relative to its root, or its place."""

    def encoded(self, row: int) -> bytes | ReadableFile:
        """What the image of a row is decoded from: bytes, or a file.

        Raises:
            DataError: there is neither; names the row.
        """

    def read(self, row: int) -> Image.Image:
        """The image of a row in RGB.

        Raises:
            DataError: it cannot be read; names it.
        """


@dataclass(frozen=True, eq=False)
class PixelTable:
    """Decoded images of one size, in memory.

    Attributes:
        pixels: (N, 3, H, W) uint8.
        labels: (N,) int64, -1 where unknown.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def fingerprint(self) -> str:
        """See `ImageTable`."""
        return digest(self.labels)

    def take(self, rows: NDArray[np.int64]) -> PixelTable:
        """See `ImageTable`."""
        index = torch.from_numpy(rows)
        return PixelTable(self.pixels[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class FileTable:
    """Image files of any size.

    Attributes:
        root: folder the names are relative to.
        names: (N,) file names as fixed-width bytes: one buffer, because a list of N Python strings
            would be copied into every worker, page by page, as its reference counts are touched.
        labels: (N,) int64, -1 where unknown.
    """

    root: Path
    names: NDArray[np.bytes_]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> Path:
        """File of one row."""
        return self.root / os.fsdecode(self.names[row])

    def name(self, row: int) -> str:
        """See `EncodedTable`; bytes that are no text are escaped."""
        text: str = self.names[row].decode("utf-8", "backslashreplace")
        return text

    def encoded(self, row: int) -> Path:
        """See `EncodedTable`."""
        return self.path(row)

    def read(self, row: int) -> Image.Image:
        """See `EncodedTable`."""
        return read_image(self.path(row))

    def fingerprint(self) -> str:
        """See `ImageTable`; covers the names relative to `root`, so the folder may move."""
        return digest_of_files(self.labels, self.names)

    def take(self, rows: NDArray[np.int64]) -> FileTable:
        """See `ImageTable`."""
        return FileTable(self.root, self.names[rows], self.labels[torch.from_numpy(rows)])


def encoded_image(table: EncodedTable, row: int) -> EncodedImage:
    """The image of a row, whose pixels are yet to be decoded; `read` decodes all of them.

    Raises:
        DataError: as `encoded` says, or it is no image.
    """
    found = table.encoded(row)
    if isinstance(found, bytes):
        return EncodedImage(found, name=table.name(row))
    return EncodedImage(read_bytes(found), name=str(found))


def digest_of_files(labels: Tensor, names: NDArray[np.bytes_]) -> str:
    """`digest` of labels and names of files."""
    # Joined, so that the width of the buffer does not count.
    return digest(labels, b"\0".join(names.tolist()))


def digest(labels: Tensor, names: bytes = b"") -> str:
    """SHA-256 of labels (as little-endian int64) and names."""
    return hashlib.sha256(labels.numpy().astype("<i8").tobytes() + names).hexdigest()


def decode_all(table: ImageTable) -> PixelTable | EncodedTable:
    """Every row of a table, decoded if it was packed."""
    return table.take(np.arange(len(table)))
