"""What every table of images can do, and the table of images that are decoded already."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssl_lt.data.images.decode import AS_STORED, Decoding, EncodedImage, read_bytes


class ImageTable(ABC):
    """N images with their labels.

    Every kind of table is a frozen dataclass, whose arrays and tensors have one entry an image.
    Tables must be picklable, because each loader worker
    holds a copy.

    Attributes:
        labels: (N,) int64, -1 where unknown.
        group_ids: (N,) int64, equal where images belong together; None: each stands alone.
        decoding: how `read` makes 8 bits of what is stored.
        takes_pixels: `take` gives a `PixelTable`.
        is_streamed: rows are cheap to read in their order only.
    """

    labels: Tensor
    group_ids: Tensor | None = None
    decoding: Decoding = AS_STORED
    takes_pixels: ClassVar[bool] = False
    is_streamed: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """SHA-256 that changes when images are added, removed or reordered; decodes nothing.

        Each table says what it covers; by default that is the labels.
        """
        return digest(self.labels)

    def content_sha256(self, sizes: Sequence[int | str] | None = None) -> str:
        """SHA-256 of the images and labels in their order, as far as it is cheap to know them.

        A run that goes on must find the same. Each table says what it covers; by default that is
        the fingerprint.

        Args:
            sizes: `file_sizes`, where they are known already.

        Raises:
            DataError: a file does not exist; names it.
        """
        return hashlib.sha256(self.fingerprint().encode()).hexdigest()

    def take(self, rows: NDArray[np.int64]) -> ImageTable:
        """The table of these rows, in this order. Only `ParquetTable` decodes the images here."""
        kept = {
            name: value[torch.from_numpy(rows) if isinstance(value, Tensor) else rows]
            for name, value in vars(self).items()
            if isinstance(value, Tensor | np.ndarray)
        }
        return cast(ImageTable, replace(cast(Any, self), **kept))

    def name(self, row: int) -> str:
        """What people find an image by: its file, relative to the root of the table, or its row."""
        return f"row {row}"

    def identities(self) -> list[str] | None:
        """(N,) what each image is known by wherever the data is kept; opens no file.

        None where there is nothing, or where images share it.
        """
        return None

    def file_sizes(self) -> list[int | str]:
        """(N,) bytes of each image file; "" where the identity tells.

        Raises:
            DataError: a file does not exist; names it.
        """
        return [""] * len(self)

    @abstractmethod
    def encoded(self, row: int) -> bytes | Path:
        """The image file: its bytes, or its path.

        Raises:
            DataError: the table has neither; names the image.
        """

    def open(self, row: int) -> EncodedImage:
        """The image with its size, not decoded yet.

        Raises:
            DataError: as `encoded` says, or it is not an image.
        """
        stored = self.encoded(row)
        name = self.name(row) if isinstance(stored, bytes) else str(stored)
        return EncodedImage(read_bytes(stored), name=name, decoding=self.decoding)

    def read(self, row: int) -> Image.Image:
        """The image in RGB.

        Raises:
            DataError: it cannot be read; names it.
        """
        return self.open(row).decode()

    def with_decoding(self, decoding: Decoding) -> ImageTable:
        """The same images, decoded otherwise; pixels are decoded already."""
        return self if self.takes_pixels else replace(cast(Any, self), decoding=decoding)

    def with_labels(self, labels: Tensor) -> Self:
        """The same images under other labels, (N,) int64."""
        return cast(Self, replace(cast(Any, self), labels=labels))

    def with_groups(self, group_ids: Tensor) -> Self:
        """The same images in other groups, (N,) int64."""
        return cast(Self, replace(cast(Any, self), group_ids=group_ids))


@dataclass(frozen=True, eq=False)
class PixelTable(ImageTable):
    """Decoded images of one size, in memory.

    Attributes:
        pixels: (N, 3, H, W) uint8.
        labels: (N,) int64, -1 where unknown.
        group_ids: see `ImageTable`.
    """

    pixels: Tensor
    labels: Tensor
    group_ids: Tensor | None = None
    takes_pixels: ClassVar[bool] = True

    def content_sha256(self, sizes: Sequence[int | str] | None = None) -> str:
        """Covers the labels and every pixel."""
        found = hashlib.sha256(self.fingerprint().encode())
        found.update(self.pixels.contiguous().numpy().data)
        return found.hexdigest()

    def encoded(self, row: int) -> bytes:
        """A PNG."""
        buffer = io.BytesIO()
        # Levels above 1 take several times as long for a few percent.
        self.read(row).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def read(self, row: int) -> Image.Image:
        """See `ImageTable`."""
        return Image.fromarray(self.pixels[row].permute(1, 2, 0).contiguous().numpy())


def digest(labels: Tensor, names: bytes = b"") -> str:
    """SHA-256 of labels (as little-endian int64) and names."""
    return hashlib.sha256(labels.numpy().astype("<i8").tobytes() + names).hexdigest()


def digest_of_files(labels: Tensor, names: NDArray[np.bytes_]) -> str:
    """`digest` of labels and (N,) names of files."""
    # Joined, so that the width of the buffer does not count.
    return digest(labels, b"\0".join(names.tolist()))


def all_rows(table: ImageTable) -> ImageTable:
    """Every row of a table, which decodes the images of a `ParquetTable`."""
    return table.take(np.arange(len(table)))
