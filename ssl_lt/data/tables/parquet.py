"""Images packed in parquet files, as the Hugging Face hub stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import decode_image
from ssl_lt.data.tables.table import PixelTable, digest


@dataclass(frozen=True, eq=False)
class PackedTable:
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

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def fingerprint(self) -> str:
        """See `ImageTable`."""
        return digest(self.labels)

    def take(self, rows: NDArray[np.int64]) -> PixelTable:
        """Decodes these rows, one row group of the files at a time.

        In one thread: 40 microseconds an image, and more threads only wait for the interpreter.

        Raises:
            DataError: an image that cannot be decoded or has another size; names file and row.
        """
        pixels = torch.empty((len(rows), 3, self.side, self.side), dtype=torch.uint8)
        assert len(rows) == 0 or (rows.min() >= 0 and rows.max() < len(self))
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        start, first = 0, 0
        for path, group, length in self._row_groups():
            last = int(np.searchsorted(ascending, start + length))
            places = order[first:last]
            if len(places):
                blobs = _column(path, group, self.image_column)
                for place in places:
                    row = int(rows[place])
                    name = f"{path}: row {row} of the set"
                    pixels[place] = _decode(blobs[row - start].as_py(), name, side=self.side)
            start, first = start + length, last
        return PixelTable(pixels, self.labels[torch.from_numpy(rows)])

    def blobs(self, start: int, stop: int) -> Iterator[bytes]:
        """Encoded images of rows `start` to `stop` (not included), in order.

        Raises:
            DataError: a row group that cannot be read; names the file.
        """
        first = 0
        for path, group, length in self._row_groups():
            if first < stop and first + length > start:
                inside = slice(max(start - first, 0), stop - first)
                for blob in _column(path, group, self.image_column)[inside]:
                    yield blob.as_py() or b""  # a missing one is an empty file
            first += length

    def _row_groups(self) -> Iterator[tuple[Path, int, int]]:
        for path in self.files:
            metadata = pq.read_metadata(path)
            for group in range(metadata.num_row_groups):
                yield path, group, metadata.row_group(group).num_rows


def open_packed(
    files: Sequence[Path], *, image_column: str, label_column: str, side: int
) -> tuple[PackedTable, tuple[str, ...]]:
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
    return PackedTable(tuple(files), image_column, torch.from_numpy(all_labels), side), names


def _class_names(schema: pa.Schema, label_column: str) -> tuple[str, ...]:
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = described.get("info", {}).get("features", {}).get(label_column, {})
    return tuple(feature.get("names", ()))


def _column(path: Path, group: int, image_column: str) -> pa.Array:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=[f"{image_column}.bytes"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: row group {group} cannot be read: {error}") from error
    return table.column(image_column).combine_chunks().field("bytes")


def _decode(blob: bytes | None, name: str, *, side: int) -> Tensor:
    # By Pillow: torchvision's decoder takes a third of the time, and the process with it where a
    # PNG has no pixels (segmentation fault in 0.29.1).
    image = decode_image(blob or b"", name=name)
    if image.size != (side, side):
        raise DataError(
            f"{name}: is {image.width} x {image.height} pixels, expected {side} x {side}"
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
