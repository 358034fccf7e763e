"""Folders that are small enough are decoded once and stay in memory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch

from ssl_lt.core.progress import watched
from ssl_lt.data.images.crops import CentreSquare, cut, storage_size
from ssl_lt.data.tables.table import EncodedTable, PixelTable


def decode_once(
    table: PixelTable | EncodedTable, *, image_size: int, limit_mib: int
) -> PixelTable | EncodedTable:
    """Decodes a table of files if that fits.

    Each image is kept as its middle square, `storage_size(image_size)` pixels a side: what testing
    cuts from the middle is what it would cut from the file, and random crops lose the ends of
    long images.

    Args:
        table: rows to decode; pixels are given back as they are.
        image_size: side of the images a model sees.
        limit_mib: memory the pixels may take; 0: never decode.

    Returns:
        Pixels (N, 3, s, s), or the same table where they would not fit.

    Raises:
        DataError: a file that cannot be decoded.
    """
    side = storage_size(image_size)
    if isinstance(table, PixelTable) or len(table) * 3 * side * side > limit_mib * 2**20:
        return table
    pixels = torch.empty((len(table), 3, side, side), dtype=torch.uint8)
    square = CentreSquare(1.0)

    def decode(row: int) -> None:
        image = table.read(row)
        pixels[row] = cut(image, [square.box(image.height, image.width)], size=side)[0]

    # Threads suffice: Pillow lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        decoded = [threads.submit(decode, row) for row in range(len(table))]
        for one in watched(decoded, total=len(table), words="decoding images"):
            one.result()
    return PixelTable(pixels, table.labels)
