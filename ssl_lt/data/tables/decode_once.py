"""Folders that are small enough are decoded once and stay in memory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch

from ssl_lt.core.progress import track
from ssl_lt.data.images.crops import centre_square, storage_size
from ssl_lt.data.tables.table import ImageTable, PixelTable


def decode_once(table: ImageTable, *, image_size: int, limit_mib: int) -> ImageTable:
    """Decodes a table if the pixels fit.

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

    def decode(row: int) -> None:
        pixels[row] = centre_square(table.read(row), size=side)

    # Threads suffice: Pillow lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        decoded = [threads.submit(decode, row) for row in range(len(table))]
        for one in track(decoded, total=len(table), label="decoding images"):
            one.result()
    return PixelTable(pixels, table.labels)
