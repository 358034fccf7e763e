"""Logit adjustment: cross-entropy that asks rare classes for a larger margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.class_counts import positive_counts
from ssl_lt.losses.cross_entropy import cross_entropy


def class_log_prior(counts_per_class: Tensor) -> Tensor:
    """(C,) `log pi_j`, where `pi_j` is class j's share of the training images.

    Floating as the counts are, float32 for integers.

    Args:
        counts_per_class: (C,) training images of each class.

    Raises:
        ConfigError: a class without images, whose prior has no logarithm.
    """
    counts = positive_counts(counts_per_class)
    return torch.log(counts / counts.sum())


def logit_adjusted_cross_entropy(
    logits: Tensor, labels: Tensor, log_prior: Tensor, *, tau: float
) -> Tensor:
    """Cross-entropy of `f + tau log pi` (Eq. 10 of arXiv:2007.07314).

    With `tau = 1` it is the balanced softmax (arXiv:2007.10740): `log n_j` and `log pi_j` differ
    by a constant, which the softmax does not see. The adjustment belongs to training; predictions
    take the plain logits.

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64.
        log_prior: (C,), `log pi`.
        tau: strength; 0 is plain cross-entropy.

    Returns:
        (B,) losses.
    """
    return cross_entropy(logits + tau * log_prior, labels)


@dataclass(frozen=True)
class LogitAdjustmentOptions:
    """Options of logit adjustment."""

    tau: float = 1.0
    """Strength of the adjustment: tau times the log-prior is added to the logits."""

    def __post_init__(self) -> None:
        if not 0 <= self.tau < float("inf"):
            raise ConfigError(f"--tau: {self.tau}, must be at least 0 and finite")


class LogitAdjustment(nn.Module):
    """`logit_adjusted_cross_entropy` as a module.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: `tau`.

    Raises:
        ConfigError: a class without images.
    """

    log_prior: Tensor

    def __init__(self, counts_per_class: Tensor, options: LogitAdjustmentOptions) -> None:
        super().__init__()
        self.tau = options.tau
        # Follows from the data, so it is not saved with the weights.
        self.register_buffer("log_prior", class_log_prior(counts_per_class), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits; labels are (B,) classes, or (B, C) shares of them."""
        return logit_adjusted_cross_entropy(logits, labels, self.log_prior, tau=self.tau)
