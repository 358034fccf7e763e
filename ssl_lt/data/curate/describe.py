"""Every image of a table is decoded once and described."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError
from ssl_lt.core.progress import track
from ssl_lt.data.curate.inspection import ImageStats, Values
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.table import ImageTable

_PARTS = {"train": "training", "test": "test", "validation": "validation"}
_CHUNK = 256  # images that threads are given at a time


def describe_all(source: Source) -> dict[str, list[ImageStats]]:
    """Part -> what each of its images is like; the user sees how far it is."""
    found = {}
    for part, table in source.parts.items():
        label = f"looking at {_PARTS[part]} images"
        found[part] = list(track(describe_table(table), total=len(table), label=label))
    return found


def describe_table(table: ImageTable, rows: Iterable[int] | None = None) -> Iterator[ImageStats]:
    """Describes the images of these rows, in their order; None: of every row."""
    remaining = iter(range(len(table)) if rows is None else rows)
    # Threads suffice: Pillow and hashlib let go of the interpreter while they work.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        while chunk := list(islice(remaining, _CHUNK)):
            yield from threads.map(partial(describe_image, table), chunk)


def describe_image(table: ImageTable, row: int) -> ImageStats:
    """Decodes and describes one image; one that cannot be read is described as such."""
    name = table.name(row)
    try:
        image = table.open(row)
        values = _values(image.deep_values())
        pixels = np.asarray(image.decode())
    except DataError as error:
        # The error of a file begins with its path, which ends with its name.
        return ImageStats(name, problem=str(error).rpartition(f"{name}: ")[2])
    return ImageStats(
        name=name,
        width=image.width,
        height=image.height,
        mode=image.mode,
        content=_sha256(pixels),
        is_grey=bool((pixels[..., :1] == pixels[..., 1:]).all()),
        is_constant=bool((pixels == pixels[0, 0]).all()),
        values=values,
    )


def glance(table: ImageTable, *, number: int = 64) -> list[ImageStats]:
    """Sizes, modes and values of some images of a table, or why they cannot be read.

    An image of 8 bits is not decoded.

    Args:
        table: its rows are looked at from end to end, or the first where others cost much.
        number: how many.
    """
    rows = np.linspace(0, len(table) - 1, min(number, len(table))).astype(np.int64).tolist()

    def look(row: int) -> ImageStats:
        try:
            image = table.open(row)
            size, values = (image.width, image.height), _values(image.deep_values())
        except DataError as error:
            return ImageStats(table.name(row), problem=str(error))
        return ImageStats(table.name(row), *size, mode=image.mode, values=values)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return list(threads.map(look, range(len(rows)) if table.is_streamed else rows))


def _values(stored: NDArray[Any] | None) -> Values | None:
    """What an image holds; the typical values are those of some 50,000 pixels."""
    if stored is None:
        return None
    some = stored.reshape(-1)[:: max(1, stored.size // 50_000)]
    typical = np.percentile(some, (0.5, 99.5))
    return Values(*map(float, (stored.min(), stored.max(), *typical)))


def _sha256(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of (H, W, 3) pixels with their size: equal for any two files that decode alike."""
    height, width, _ = pixels.shape
    digest = hashlib.sha256(f"{height} {width} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
