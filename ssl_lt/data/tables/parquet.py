"""Images packed in parquet files, as the Hugging Face hub stores them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import EncodedImage
from ssl_lt.data.tables.table import ImageTable, PixelTable


@dataclass(frozen=True, eq=False)
class ParquetTable(ImageTable):
    """Encoded images of one size in parquet files; only rows that are taken are decoded.

    Attributes:
        images: (N,) file and Arrow scalar of each image, as it is stored.
        labels: (N,) int64.
        side: height and width every image must have.
    """

    images: Sequence[tuple[Path, Any]]
    labels: Tensor
    side: int
    takes_pixels: ClassVar[bool] = True

    def content_sha256(self, sizes: Sequence[int | str] | None = None) -> str:
        """The fingerprint: more would take as long as decoding every image."""
        return self.fingerprint()

    def take(self, rows: NDArray[np.int64]) -> PixelTable:
        """Decodes these rows.

        In one thread: 40 microseconds an image, and more threads only wait for the interpreter.

        Raises:
            DataError: an image that cannot be decoded or has another size; names file and row.
        """
        pixels = torch.empty((len(rows), 3, self.side, self.side), dtype=torch.uint8)
        for place, row in enumerate(rows.tolist()):
            # By Pillow: torchvision's decoder takes a third of the time, and the process with it
            # where a PNG has no pixels (segmentation fault in 0.29.1).
            name = f"{self.images[row][0]}: row {row} of the set"
            image = EncodedImage(self.encoded(row), name=name).decode()
            if image.size != (self.side, self.side):
                size = f"{image.width} x {image.height}"
                raise DataError(f"{name}: is {size} pixels, expected {self.side} x {self.side}")
            pixels[place] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return PixelTable(pixels, self.labels[torch.from_numpy(rows)])

    def encoded(self, row: int) -> bytes:
        """See `ImageTable`; empty where the row has no image."""
        return self.images[row][1].as_py() or b""


def open_parquet(
    files: Sequence[Path], *, image_column: str, label_column: str, side: int
) -> tuple[ParquetTable, tuple[str, ...]]:
    """Reads images as they are stored, labels and class names.

    Returns:
        The table and the class names of the schema; numbers as names where it has none.

    Raises:
        DataError: not parquet, a column is missing, a label has no name.
    """
    labels, images = [], list[tuple[Path, Any]]()
    names: tuple[str, ...] = ()
    for path in files:
        try:
            schema = pq.read_schema(path)
            for column in (image_column, label_column):
                if column not in schema.names:
                    raise DataError(f"{path}: has no column {column}, only {schema.names}")
            table = pq.read_table(path, columns=[image_column, label_column])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as parquet: {error}") from error
        labels.append(table[label_column].to_numpy())
        images += [(path, blob) for blob in pc.struct_field(table[image_column], "bytes")]
        names = names or _class_names(schema, label_column)
    all_labels = np.concatenate(labels).astype(np.int64)
    names = names or tuple(str(label) for label in range(int(all_labels.max()) + 1))
    outside = np.flatnonzero((all_labels < 0) | (all_labels >= len(names)))
    if len(outside):
        row = outside[0]
        raise DataError(
            f"{files[0].parent}: row {row} has label {all_labels[row]}, there are {len(names)}"
        )
    return ParquetTable(images, torch.from_numpy(all_labels), side), names


def _class_names(schema: pa.Schema, label_column: str) -> tuple[str, ...]:
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = described.get("info", {}).get("features", {}).get(label_column, {})
    return tuple(feature.get("names", ()))
