"""Images packed in parquet files, as the Hugging Face hub stores them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import decode_image
from ssl_lt.data.tables.table import ImageTable, PixelTable, digest


@dataclass(frozen=True, eq=False)
class ParquetTable(ImageTable):
    """Encoded images of one size in parquet files; only rows that are taken are decoded.

    Attributes:
        files: shards, in order.
        image_column: struct column with the field `bytes`.
        labels: (N,) int64.
        side: height and width every image must have.
    """

    files: tuple[Path, ...]
    image_column: str
    labels: Tensor
    side: int
    takes_pixels: ClassVar[bool] = True

    def fingerprint(self) -> str:
        """Covers the labels."""
        return digest(self.labels)

    def content_sha256(self) -> str:
        """The fingerprint: more would take as long as decoding every image."""
        return self.fingerprint()

    def take(self, rows: NDArray[np.int64]) -> PixelTable:
        """Decodes these rows, one row group of the files after another.

        In one thread: 40 microseconds an image, and more threads only wait for the interpreter.

        Raises:
            DataError: an image that cannot be decoded or has another size; names file and row.
        """
        pixels = torch.empty((len(rows), 3, self.side, self.side), dtype=torch.uint8)
        for place in np.argsort(rows, kind="stable").tolist():
            pixels[place] = self._decode(int(rows[place]))
        return PixelTable(pixels, self.labels[torch.from_numpy(rows)])

    def name(self, row: int) -> str:
        """See `ImageTable`."""
        return f"row {row}"

    def encoded(self, row: int) -> bytes:
        """See `ImageTable`; empty where the row has no image. Cheap only for rows in order.

        Raises:
            DataError: a row group that cannot be read; names the file.
        """
        _, start, blobs = self._group_of(row)
        return blobs[row - start].as_py() or b""

    def _decode(self, row: int) -> Tensor:
        # By Pillow: torchvision's decoder takes a third of the time, and the process with it where
        # a PNG has no pixels (segmentation fault in 0.29.1).
        path, _, _ = self._group_of(row)
        name = f"{path}: row {row} of the set"
        image = decode_image(self.encoded(row), name=name)
        if image.size != (self.side, self.side):
            size = f"{image.width} x {image.height}"
            raise DataError(f"{name}: is {size} pixels, expected {self.side} x {self.side}")
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def _group_of(self, row: int) -> tuple[Path, int, Any]:
        """File and first row of a row's group, and the encoded images of the group."""
        assert 0 <= row < len(self)
        place = bisect_right(self._groups, row, key=lambda group: group.start) - 1
        group = self._groups[place]
        return group.path, group.start, _read_group(self, group)

    @cached_property
    def _groups(self) -> tuple[_RowGroup, ...]:
        groups, start = [], 0
        for path in self.files:
            metadata = pq.read_metadata(path)
            for number in range(metadata.num_row_groups):
                groups.append(_RowGroup(path, number, start))
                start += metadata.row_group(number).num_rows
        return tuple(groups)


@dataclass(frozen=True)
class _RowGroup:
    path: Path
    number: int
    start: int  # its first row of the table


@lru_cache(maxsize=1)
def _read_group(table: ParquetTable, group: _RowGroup) -> Any:
    """(n,) Arrow array of the encoded images of a group."""
    try:
        with pq.ParquetFile(group.path) as file:
            found = file.read_row_group(group.number, columns=[f"{table.image_column}.bytes"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{group.path}: row group {group.number} cannot be read: {error}"
        ) from error
    return found.column(table.image_column).combine_chunks().field("bytes")


def open_parquet(
    files: Sequence[Path], *, image_column: str, label_column: str, side: int
) -> tuple[ParquetTable, tuple[str, ...]]:
    """Reads labels and class names.

    Returns:
        The table and the class names of the schema; numbers as names where it has none.

    Raises:
        DataError: not parquet, a column is missing, a label has no name.
    """
    labels = []
    names: tuple[str, ...] = ()
    for path in files:
        try:
            schema = pq.read_schema(path)
            for column in (image_column, label_column):
                if column not in schema.names:
                    raise DataError(f"{path}: has no column {column}, only {schema.names}")
            labels.append(pq.read_table(path, columns=[label_column])[label_column].to_numpy())
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as parquet: {error}") from error
        names = names or _class_names(schema, label_column)
    all_labels = np.concatenate(labels).astype(np.int64)
    names = names or tuple(str(label) for label in range(int(all_labels.max()) + 1))
    outside = np.flatnonzero((all_labels < 0) | (all_labels >= len(names)))
    if len(outside):
        row = outside[0]
        raise DataError(
            f"{files[0].parent}: row {row} has label {all_labels[row]}, there are {len(names)}"
        )
    return ParquetTable(tuple(files), image_column, torch.from_numpy(all_labels), side), names


def _class_names(schema: pa.Schema, label_column: str) -> tuple[str, ...]:
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = described.get("info", {}).get("features", {}).get(label_column, {})
    return tuple(feature.get("names", ()))
