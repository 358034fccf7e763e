"""Balanced softmax: logit adjustment whose strength is not chosen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssl_lt.losses.logit_adjustment import LogitAdjustment, LogitAdjustmentOptions


@dataclass(frozen=True)
class BalancedSoftmaxOptions:
    """The balanced softmax has nothing to choose."""


def balanced_softmax(counts_per_class: Tensor, options: BalancedSoftmaxOptions) -> LogitAdjustment:
    """Cross-entropy of `f + log n` (arXiv:2007.10740): logit adjustment with tau 1.

    Args:
        counts_per_class: (C,) training images `n` of each class, none of them 0.
        options: none.

    Raises:
        ConfigError: a class without images.
    """
    return LogitAdjustment(counts_per_class, LogitAdjustmentOptions(tau=1.0))
