"""Images as their source keeps them: files, encoded bytes or pixels, one after another."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import ReadableFile, decode_with_mode
from ssl_lt.data.tables.parquet import PackedTable
from ssl_lt.data.tables.table import EncodedTable, ImageTable, PixelTable


@dataclass(frozen=True, eq=False)
class StoredImage:
    """One image before it is decoded.

    Attributes:
        name: that people find it by, see `EncodedTable.name`.
        kept: a file, encoded bytes, or (H, W, 3) uint8 pixels.
    """

    name: str
    kept: ReadableFile | bytes | NDArray[np.uint8]

    def encoded(self) -> bytes:
        """An image file's bytes: the source's own where it has any, else a PNG.

        Raises:
            DataError: the file cannot be read; names the image.
        """
        if isinstance(self.kept, bytes):
            return self.kept
        if isinstance(self.kept, np.ndarray):
            buffer = io.BytesIO()
            # Levels above 1 take several times as long for a few percent.
            Image.fromarray(self.kept).save(buffer, "PNG", compress_level=1)
            return buffer.getvalue()
        try:
            return self.kept.read_bytes()
        except OSError as error:
            raise DataError(f"{self.name}: {error.strerror}") from error

    @property
    def is_file(self) -> bool:
        """It has a name of its own."""
        return not isinstance(self.kept, bytes | np.ndarray)

    def decoded(self) -> tuple[str, NDArray[np.uint8]]:
        """Pillow's mode as stored, and RGB pixels (H, W, 3).

        Raises:
            DataError: as `decode_with_mode` says.
        """
        if isinstance(self.kept, np.ndarray):
            return "RGB", self.kept
        mode, image = decode_with_mode(self.encoded(), name=self.name)
        return mode, np.asarray(image)


def stored_images(
    table: ImageTable, *, start: int = 0, stop: int | None = None
) -> Iterator[StoredImage]:
    """Rows `start` to `stop` (not included; None: to the end) of a table, in order.

    Raises:
        DataError: a shard that cannot be read.
    """
    stop = len(table) if stop is None else stop
    if isinstance(table, PackedTable):
        for row, blob in enumerate(table.blobs(start, stop), start=start):
            yield StoredImage(f"row {row}", blob)
        return
    if isinstance(table, PixelTable):
        for row in range(start, stop):
            pixels = table.pixels[row].permute(1, 2, 0).contiguous().numpy()
            yield StoredImage(f"row {row}", pixels)
        return
    rows = table.take(np.arange(start, stop))
    assert not isinstance(rows, PixelTable)  # only a packed table decodes what is taken from it
    for place in range(stop - start):
        yield StoredImage(rows.name(place), _encoded(rows, place))


def _encoded(table: EncodedTable, row: int) -> ReadableFile | bytes:
    try:
        return table.encoded(row)
    except DataError:  # a table may have a row without an image: an empty file
        return b""
