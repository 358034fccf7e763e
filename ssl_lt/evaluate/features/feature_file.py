"""Features in a file instead of in memory, for sets that do not fit into it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.errors import DataError, DiskError
from ssl_lt.evaluate.features.extract import Features


def store_features(parts: Iterable[Features], folder: Path) -> Features:
    """Writes rows as they come and maps them: what is not being read takes no memory.

    The file has no name, so it is gone with the tensor, however the process ends.

    Args:
        parts: float32 rows in ascending order of the images, some at a time.
        folder: on a disk with room for 4 N D bytes.

    Returns:
        (N, D) features mapped from the file; labels and index in memory.

    Raises:
        DataError: no image at all.
        DiskError: the disk is full or may not be written.
    """
    labels: list[Tensor] = []
    index: list[Tensor] = []
    dim = 0
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for part in parts:
                file.write(part.features.contiguous().numpy().data)
                labels.append(part.labels)
                index.append(part.index)
                dim = part.features.shape[1]
            if not index:
                raise DataError("feature extraction: there is no image")
            file.flush()
            num_rows = sum(map(len, index))
            rows = np.memmap(file, dtype=np.float32, mode="r+", shape=(num_rows, dim))
    except OSError as error:
        raise DiskError(f"{folder}: no room for features: {error.strerror or error}") from error
    return Features(torch.from_numpy(rows), torch.cat(labels), torch.cat(index))
