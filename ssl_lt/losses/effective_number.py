"""Effective number of images of a class, and the class weights that follow from it."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.class_counts import positive_counts


def check_beta(beta: float) -> None:
    """Refuses what is no probability of overlap.

    Raises:
        ConfigError: `beta` outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"--beta: {beta} is outside [0, 1)")


def effective_number(counts_per_class: Tensor, *, beta: float) -> Tensor:
    """Images of each class that do not overlap with others: `E_n = (1 - beta^n) / (1 - beta)`.

    Proposition 1 of arXiv:1901.05555. `beta = 0` gives 1 for every class; towards 1 it gives `n`.

    Args:
        counts_per_class: (C,) training images `n` of each class, none of them 0.
        beta: `(N - 1) / N` for N distinguishable images of a class; in [0, 1).

    Returns:
        (C,) floating: that of the counts, float32 for integers.

    Raises:
        ConfigError: a class without images.
    """
    counts = positive_counts(counts_per_class)
    # 1 - 0.9999^5 would keep four digits in single precision.
    return ((1 - beta ** counts.to(torch.float64)) / (1 - beta)).to(counts.dtype)


def effective_number_weights(counts_per_class: Tensor, *, beta: float) -> Tensor:
    """Class weights `w_j = C (1 / E_{n_j}) / sum_k (1 / E_{n_k})` (arXiv:1901.05555).

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        beta: in [0, 1); 0 gives 1 for every class.

    Returns:
        (C,) floating, sums to C: that of the counts, float32 for integers.

    Raises:
        ConfigError: a class without images.
    """
    inverse = 1 / effective_number(counts_per_class, beta=beta)
    return len(inverse) * inverse / inverse.sum()
