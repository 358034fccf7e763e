"""Training images of each class, as the numbers that losses divide by."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError


def positive_counts(counts_per_class: Tensor) -> Tensor:
    """(C,) floating: the counts, none of them 0; integers become float32.

    Args:
        counts_per_class: (C,) training images of each class.

    Raises:
        ConfigError: a class without images, whose prior has no logarithm and no inverse.
    """
    empty = torch.nonzero(counts_per_class <= 0).flatten().tolist()
    if empty:
        raise ConfigError(
            f"counts_per_class: no training image of class {empty[0]} "
            f"({len(empty)} such classes), so its prior has no logarithm"
        )
    if counts_per_class.is_floating_point():
        return counts_per_class
    return counts_per_class.to(torch.float32)
