"""Folders that are small enough are decoded once and stay in memory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F

from ssl_lt.core.progress import track
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.images.crops import centre_square, storage_size
from ssl_lt.data.tables.table import ImageTable, PixelTable


def decode_once(table: ImageTable, spec: ImageSpec, *, limit_mib: int) -> ImageTable:
    """Decodes a table if the pixels fit.

    Each image is kept as its middle square, `storage_size` pixels a side: what testing cuts from
    the middle is what it would cut from the file, and random crops lose the ends of long images.

    Args:
        table: rows to decode. Pixels are given back as they are, or reduced to the size that a
            network sees; they are enlarged batch by batch.
        spec: what a network sees.
        limit_mib: memory the pixels may take; 0: never decode.

    Returns:
        Pixels (N, 3, s, s), or the same table where they would not fit.

    Raises:
        DataError: a file that cannot be decoded.
    """
    if isinstance(table, PixelTable):
        return _reduced(table, spec)
    side = storage_size(spec.size, spec.crop)
    if len(table) * 3 * side * side > limit_mib * 2**20:
        return table
    pixels = torch.empty((len(table), 3, side, side), dtype=torch.uint8)

    def decode(row: int) -> None:
        pixels[row] = centre_square(table.read(row), size=side, interpolation=spec.interpolation)

    # Threads suffice: Pillow lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        decoded = [threads.submit(decode, row) for row in range(len(table))]
        try:
            for one in track(decoded, total=len(table), label="decoding images"):
                one.result()
        except BaseException:  # or else the rest would be decoded before it is said
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return PixelTable(pixels, table.labels, table.group_ids)


def _reduced(table: PixelTable, spec: ImageSpec) -> PixelTable:
    """Pixels larger than what a network sees, at that size."""
    if table.pixels.shape[-1] <= storage_size(spec.size, spec.crop):
        return table
    size = (spec.size, spec.size)
    pixels = F.interpolate(table.pixels, size, mode=spec.interpolation, antialias=True)
    return PixelTable(pixels, table.labels, table.group_ids)
