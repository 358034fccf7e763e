"""Every image of a table is decoded once and described."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError
from ssl_lt.data.curate.inspection import Look
from ssl_lt.data.tables.stored import StoredImage, stored_images
from ssl_lt.data.tables.table import ImageTable

# Images in memory at once, encoded; of each thread one is decoded.
_CHUNK = 256


def scan(table: ImageTable) -> Iterator[Look]:
    """Looks at every image, in the order of the rows.

    One that cannot be decoded is described as such; a shard that cannot be read ends it.

    Raises:
        DataError: a shard that cannot be read.
    """
    images = stored_images(table)
    # Threads suffice: Pillow and hashlib let go of the interpreter while they work.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        while chunk := list(islice(images, _CHUNK)):
            yield from threads.map(look_at, chunk)


def look_at(image: StoredImage) -> Look:
    """Decodes and describes one image."""
    try:
        mode, pixels = image.decoded()
    except DataError as error:
        reason = str(error).removeprefix(f"{image.name}: ")
        return Look(image.name, problem=reason)
    height, width, _ = pixels.shape
    return Look(
        name=image.name,
        width=width,
        height=height,
        mode=mode,
        content=content_of(pixels),
        is_grey=bool((pixels[..., :1] == pixels[..., 1:]).all()),
        is_constant=bool((pixels == pixels[0, 0]).all()),
    )


def content_of(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of (H, W, 3) pixels with their size: equal for any two files that decode alike."""
    height, width, _ = pixels.shape
    digest = hashlib.sha256(f"{height} {width} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
