"""Handwritten digits that come with scikit-learn: 1,797 images, no download."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ssl_lt.data.long_tail import subsample
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.table import PixelTable

_SIDE = 32
_TEST_PER_CLASS = 30


def open_digits() -> Source:
    """8 x 8 grey images with values 0 ... 16, enlarged to 32 x 32 RGB.

    The test split is fixed: 30 images of each class; the other 1,497 are for training.
    """
    # Imported late: scikit-learn takes a second that other sources need not wait for.
    from sklearn.datasets import load_digits

    raw = load_digits()
    labels = raw.target.astype(np.int64)
    grey = torch.from_numpy(raw.images)[:, None] / 16.0
    large = F.interpolate(grey, size=(_SIDE, _SIDE), mode="bicubic", align_corners=False)
    pixels = (large.clamp(0, 1) * 255).round().to(torch.uint8)
    table = PixelTable(pixels.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels))
    test_rows = np.sort(subsample(labels, [_TEST_PER_CLASS] * 10, seed=0))
    return Source(
        name="digits",
        class_names=tuple("0123456789"),
        train=table.take(np.setdiff1d(np.arange(len(table)), test_rows)),
        test=table.take(test_rows),
        # Over the 1,497 training images.
        mean=(0.31267474, 0.31267474, 0.31267474),
        std=(0.35646091, 0.35646091, 0.35646091),
        image_size=_SIDE,
        flip_probability=0.0,  # a mirrored digit is none, or another one
        imbalance_factor=10.0,
    )
