"""Features of mean 0 and deviation 1, as the training features have them."""

from __future__ import annotations

import torch
from torch import Tensor


def standardised(features: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """All of them less the mean and over the deviation of each of the training features.

    Of features learned without labels the mean is much larger than what tells classes apart, and
    a solver would need far more steps. A constant feature becomes 0.

    Args:
        features: (N, D) of the training images.
        others: (M, D) of other images.
    """
    mean, std = moments(features)
    return tuple((x - mean) / std for x in (features, *others))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """(D,) mean and (D,) deviation of each feature of (N, D); infinity for that of a constant."""
    std, mean = torch.std_mean(features, dim=0, correction=0)
    # What rounding leaves of a constant must not be blown up to unit variance.
    noise = 10 * torch.finfo(features.dtype).eps * mean.abs()
    return mean, torch.where(std > noise, std, torch.inf)
