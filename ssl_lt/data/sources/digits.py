"""Handwritten digits that come with scikit-learn: 1,797 images, no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ssl_lt.data.long_tail import subsample
from ssl_lt.data.tables.table import PixelTable

_SIDE = 32
_TEST_PER_CLASS = 30


@dataclass(frozen=True)
class DigitsSource:
    """8 x 8 grey images with values 0 ... 16, enlarged to 32 x 32 RGB.

    The test split is fixed: 30 images of each class; the other 1,497 are for training.
    """

    name: str = "digits"
    class_names: tuple[str, ...] = tuple("0123456789")
    # Over the 1,497 training images.
    mean: tuple[float, float, float] = (0.31267474, 0.31267474, 0.31267474)
    std: tuple[float, float, float] = (0.35646091, 0.35646091, 0.35646091)
    image_size: int | None = _SIDE
    imbalance_factor: float | None = 10.0

    def train(self) -> PixelTable:
        """1,497 images, 144 to 153 a class."""
        table, test_rows = _digits()
        return table.take(np.setdiff1d(np.arange(len(table)), test_rows))

    def test(self) -> PixelTable | None:
        """300 images, 30 a class."""
        table, test_rows = _digits()
        return table.take(np.sort(test_rows))

    def validation(self) -> None:
        """None of their own."""


def open_digits() -> DigitsSource:
    """The digits; nothing is read yet."""
    return DigitsSource()


def _digits() -> tuple[PixelTable, NDArray[np.int64]]:
    """All digits and the rows of the test split."""
    # Imported late: scikit-learn takes a second that other sources need not wait for.
    from sklearn.datasets import load_digits

    raw = load_digits()
    labels = raw.target.astype(np.int64)
    grey = torch.from_numpy(raw.images)[:, None] / 16.0
    large = F.interpolate(grey, size=(_SIDE, _SIDE), mode="bicubic", align_corners=False)
    pixels = (large.clamp(0, 1) * 255).round().to(torch.uint8)
    table = PixelTable(pixels.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels))
    return table, subsample(labels, [_TEST_PER_CLASS] * 10, seed=0)
