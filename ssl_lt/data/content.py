"""What a training set holds, as one number: a run that goes on must find it unchanged."""

from __future__ import annotations

import hashlib

import numpy as np

from ssl_lt.core.errors import DataError
from ssl_lt.data.tables import EncodedTable, FileTable, PixelTable


def content_sha256(table: PixelTable | EncodedTable) -> str:
    """SHA-256 of the rows of a table, in their order.

    Of pixels in memory: labels and every byte. Of files: names relative to their root, sizes and
    labels, so that another file of the very same size is not noticed (to read all of them would
    take an epoch). Of any other table: its fingerprint.

    Raises:
        DataError: a file is not there; names it.
    """
    digest = hashlib.sha256(table.fingerprint().encode())
    if isinstance(table, PixelTable):
        digest.update(table.pixels.contiguous().numpy().data)
    elif isinstance(table, FileTable):
        sizes = np.array([_size(table, row) for row in range(len(table))], dtype="<i8")
        digest.update(sizes.tobytes())
    return digest.hexdigest()


def _size(table: FileTable, row: int) -> int:
    path = table.path(row)
    try:
        return path.stat().st_size
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{path}: {reason}") from error
