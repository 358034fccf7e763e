"""Small pictures of single rows, for pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssl_lt.data.images.crops import CentreSquare, cut
from ssl_lt.data.tables.table import EncodedTable, PixelTable

_SIDE = 64


def thumbnail(table: PixelTable | EncodedTable, row: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: small pictures as they are, of files the middle square."""
    if isinstance(table, PixelTable):
        pixels = table.pixels[row]
    else:
        image = table.read(row)
        square = CentreSquare(1.0).box(image.height, image.width)
        pixels = cut(image, [square], size=_SIDE)[0]
    out: NDArray[np.uint8] = pixels.permute(1, 2, 0).contiguous().numpy()
    return out
