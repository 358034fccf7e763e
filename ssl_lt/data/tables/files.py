"""Image files of any size in a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.progress import track
from ssl_lt.data.images.decode import AS_STORED, Decoding, reading
from ssl_lt.data.tables.table import ImageTable, digest_of_files


@dataclass(frozen=True, eq=False)
class FileTable(ImageTable):
    """Image files, which are decoded one by one.

    Attributes:
        root: folder the names are relative to.
        names: (N,) file names as fixed-width bytes: one buffer, because a list of N Python strings
            would be copied into every worker, page by page, as its reference counts are touched.
        labels: (N,) int64, -1 where unknown.
        group_ids: see `ImageTable`.
        decoding: see `ImageTable`.
    """

    root: Path
    names: NDArray[np.bytes_]
    labels: Tensor
    group_ids: Tensor | None = None
    decoding: Decoding = AS_STORED

    def fingerprint(self) -> str:
        """Covers labels and names relative to `root`, so the folder may move."""
        return digest_of_files(self.labels, self.names)

    def content_sha256(self, sizes: Sequence[int | str] | None = None) -> str:
        """Covers labels, names and sizes.

        A file that was replaced by one of the same size is not noticed: to read every file would
        take as long as an epoch.
        """
        found = hashlib.sha256(self.fingerprint().encode())
        sizes = self.file_sizes() if sizes is None else sizes
        found.update(np.array(sizes, dtype="<i8").tobytes())
        return found.hexdigest()

    def identities(self) -> list[str]:
        """Names relative to `root`."""
        return [self.name(row) for row in range(len(self))]

    def file_sizes(self) -> list[int | str]:
        """See `ImageTable`."""
        rows = track(range(len(self)), total=len(self), label="looking up files")
        return [self._size(row) for row in rows]

    def name(self, row: int) -> str:
        """Relative to `root`; bytes that are no text are escaped."""
        text: str = self.names[row].decode("utf-8", "backslashreplace")
        return text

    def encoded(self, row: int) -> Path:
        """See `ImageTable`."""
        return self.path(row)

    def path(self, row: int) -> Path:
        """File of one row."""
        return self.root / os.fsdecode(self.names[row])

    def _size(self, row: int) -> int:
        path = self.path(row)
        with reading(path):
            return path.stat().st_size
