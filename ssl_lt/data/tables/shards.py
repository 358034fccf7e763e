"""Images in tar shards, as a table: any row can be read at any time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import AS_STORED, Decoding
from ssl_lt.data.remote.shards import ShardCache, ShardFile, open_shard
from ssl_lt.data.remote.tar_index import BLOCK, member_name
from ssl_lt.data.tables.table import ImageTable, digest


@dataclass(frozen=True, eq=False)
class ShardTable(ImageTable):
    """Encoded images in shards, read from where they lie.

    28 bytes a row, besides its label; nothing is read before it is asked for.

    Attributes:
        files: the shards.
        cache: where copies of shards from an object store are kept.
        shards: (N,) int32, number of each row's shard.
        offsets: (N,) int64, of its first byte there.
        sizes: (N,) int64, bytes.
        ids: (N,) int64, which tell images apart, see `TarIndex`.
        labels: (N,) int64, -1 where unknown.
        decoding: see `ImageTable`.
    """

    files: tuple[ShardFile, ...]
    cache: ShardCache
    shards: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    ids: NDArray[np.int64]
    labels: Tensor
    decoding: Decoding = AS_STORED
    is_streamed: ClassVar[bool] = True

    def fingerprint(self) -> str:
        """Covers labels, keys and sizes, not where shards lie or what they are called."""
        return digest(self.labels, self.ids.astype("<i8").tobytes())

    def identities(self) -> list[str]:
        """The ids, in hexadecimal."""
        return [f"{id & (2**64 - 1):016x}" for id in self.ids.tolist()]

    def name(self, row: int) -> str:
        """See `ImageTable`: shard and member."""
        shard: ShardFile = self.files[self.shards[row]]
        try:
            header = self._read(row, start=-BLOCK, size=BLOCK)
        except (DataError, OSError):  # of a shard that is gone, which is then what is wrong
            return f"{shard.name}, byte {self.offsets[row]}"
        return f"{shard.name}, {member_name(header)}"

    def encoded(self, row: int) -> bytes:
        """See `ImageTable`.

        Raises:
            DataError: the shard is gone, cannot be fetched, or was cut since it was indexed.
        """
        shard: ShardFile = self.files[self.shards[row]]
        size = int(self.sizes[row])
        try:
            blob = self._read(row, start=0, size=size)
        except OSError as error:
            raise DataError(f"{shard.url}: cannot be read: {error.strerror}") from error
        if len(blob) < size:
            raise DataError(f"{shard.url}: is cut off: has no byte {self.offsets[row] + size}")
        return blob

    def _read(self, row: int, *, start: int, size: int) -> bytes:
        file = open_shard(self.files[self.shards[row]], self.cache)
        # At a place of its own: threads and forked workers share the file.
        return os.pread(file.fileno(), size, int(self.offsets[row]) + start)
