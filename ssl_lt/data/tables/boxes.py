"""Rectangles of image files, each an image of its own."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import Decoding, EncodedImage, read_bytes
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.table import digest


@dataclass(frozen=True, eq=False)
class BoxTable(FileTable):
    """Rectangles of image files, which are decoded one by one.

    Attributes:
        boxes: (N, 4) int32: left, top, right and bottom in pixels of the upright image; what lies
            outside of it is left away.
    """

    boxes: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 4), dtype=np.int32))

    def fingerprint(self) -> str:
        """Covers labels, names relative to `root`, and boxes."""
        names = b"\0".join(self.names.tolist())
        return digest(self.labels, names + self.boxes.astype("<i4").tobytes())

    def name(self, row: int) -> str:
        """The file and the box."""
        return f"{super().name(row)}, box {_written(self.boxes[row])}"

    def open(self, row: int) -> EncodedImage:
        """See `ImageTable`."""
        path, box = self.path(row), self.boxes[row]
        name = f"{path}, box {_written(box)}"
        return _CutImage(read_bytes(path), box, name=name, decoding=self.decoding)

    def encoded(self, row: int) -> bytes:  # type: ignore[override]
        """A PNG of the box."""
        buffer = io.BytesIO()
        self.read(row).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


class _CutImage(EncodedImage):
    """A rectangle of an encoded image; its height and width are those of the rectangle."""

    def __init__(
        self, blob: bytes, box: NDArray[np.int32], *, name: str, decoding: Decoding
    ) -> None:
        super().__init__(blob, name=name, decoding=decoding)
        left, top, right, bottom = box.tolist()
        self._box = (max(left, 0), max(top, 0), min(right, self.width), min(bottom, self.height))
        width, height = self._box[2] - self._box[0], self._box[3] - self._box[1]
        if width < 1 or height < 1:
            raise DataError(f"{name}: lies outside the {self.width} x {self.height} pixels")
        self.width, self.height = width, height

    def decode(self) -> Image.Image:
        """See `EncodedImage`."""
        return super().decode().crop(self._box)

    def decode_half(self) -> Image.Image:
        """In full: the box is in whole pixels of the image."""
        return self.decode()


def _written(box: NDArray[np.int32]) -> str:
    return " ".join(map(str, box.tolist()))
