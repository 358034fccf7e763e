"""Images of a Hugging Face data set, in Arrow files that are mapped into memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import AS_STORED, Decoding
from ssl_lt.data.tables.table import ImageTable, digest_of_files


@dataclass(frozen=True, eq=False)
class HubTable(ImageTable):
    """Encoded images in Arrow files.

    Attributes:
        source: name of the data set and its part, for errors.
        images: the column, a `datasets.Dataset` that gives Arrow tables.
        rows: (N,) int64, of that column.
        names: (N,) what tells an image from others: its file name or its place, and its size.
        labels: (N,) int64, -1 where unknown.
        group_ids: see `ImageTable`.
        decoding: see `ImageTable`.
    """

    source: str
    images: Any
    rows: NDArray[np.int64]
    names: NDArray[np.bytes_]
    labels: Tensor
    group_ids: Tensor | None = None
    decoding: Decoding = AS_STORED

    def fingerprint(self) -> str:
        """Covers labels, file names and sizes."""
        return digest_of_files(self.labels, self.names)

    def name(self, row: int) -> str:
        """See `ImageTable`."""
        return f"{self.source}, row {self.rows[row]}"

    def identities(self) -> list[str] | None:
        """File names with their sizes."""
        texts = [name.decode("utf-8", "backslashreplace") for name in self.names.tolist()]
        return texts if len(set(texts)) == len(texts) else None

    def encoded(self, row: int) -> bytes | Path:
        """See `ImageTable`; a path where the set names a file and holds no bytes."""
        value = self.images[int(self.rows[row])].column(0)[0].as_py()
        content, path = _content_and_path(value)
        if content is not None:
            return content
        if path is None or not Path(path).is_absolute():
            raise DataError(f"{self.name(row)}: has no image, only the path {path}")
        return Path(path)


def _content_and_path(value: Any) -> tuple[bytes | None, str | None]:
    """Of what an Arrow column holds for an image: a struct of both, or one of them."""
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return (None, value) if isinstance(value, str) else (value, None)
