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
from torch import Tensor


class ImageTable(Protocol):
    """Rows of images that need not be decoded yet."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, -1 where unknown."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """SHA-256 that differs when rows were added, removed or put in another order."""

    def take(self, rows: NDArray[np.int64]) -> PixelTable | FileTable:
        """The table of these rows, in this order; packed pixels are decoded here."""


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

    def fingerprint(self) -> str:
        """See `ImageTable`; covers the names relative to `root`, so the folder may move."""
        # Joined, so that the width of the buffer does not count.
        return digest(self.labels, b"\0".join(self.names.tolist()))

    def take(self, rows: NDArray[np.int64]) -> FileTable:
        """See `ImageTable`."""
        return FileTable(self.root, self.names[rows], self.labels[torch.from_numpy(rows)])


def digest(labels: Tensor, names: bytes = b"") -> str:
    """SHA-256 of labels (as little-endian int64) and names."""
    return hashlib.sha256(labels.numpy().astype("<i8").tobytes() + names).hexdigest()


def decode_all(table: ImageTable) -> PixelTable | FileTable:
    """Every row of a table, decoded if it was packed."""
    return table.take(np.arange(len(table)))
