"""What a training set holds, as one number: a run that goes on must find it unchanged."""

from __future__ import annotations

import hashlib

import numpy as np

from ssl_lt.core.errors import DataError
from ssl_lt.core.progress import watched
from ssl_lt.data.tables.objects import ObjectTable
from ssl_lt.data.tables.parquet import PackedTable
from ssl_lt.data.tables.table import EncodedTable, FileTable, ImageTable, PixelTable, decode_all


def content_sha256(table: PixelTable | EncodedTable) -> str:
    """SHA-256 of the rows of a table, in their order.

    Of pixels in memory: labels and every byte. Of files, here or in a store: names relative to
    their root, sizes and labels, so that another file of the very same size is not noticed (to read
    all of them would take an epoch). Of any other table: its fingerprint.

    Raises:
        DataError: a file is not there; names it.
    """
    digest = hashlib.sha256(table.fingerprint().encode())
    if isinstance(table, PixelTable):
        digest.update(table.pixels.contiguous().numpy().data)
    elif isinstance(table, FileTable):
        rows = watched(range(len(table)), total=len(table), words="looking up files")
        sizes = np.array([_size(table, row) for row in rows], dtype="<i8")
        digest.update(sizes.tobytes())
    elif isinstance(table, ObjectTable):
        missing = np.flatnonzero(table.sizes < 0)
        if len(missing):
            raise DataError(f"{table.path(missing[0])}: no such file")
        digest.update(table.sizes.astype("<i8").tobytes())
    return digest.hexdigest()


def stored_sha256(table: ImageTable) -> str:
    """`content_sha256` of every row of a table that nothing was decoded of.

    Of packed tables, which would have to be decoded, only what the labels say.
    """
    if isinstance(table, PackedTable):
        return table.fingerprint()
    return content_sha256(decode_all(table))


def _size(table: FileTable, row: int) -> int:
    path = table.path(row)
    try:
        return path.stat().st_size
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{path}: {reason}") from error
