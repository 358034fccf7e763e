"""Focal loss: cross-entropy that turns away from images it already gets right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.cross_entropy import cross_entropy


def focal_of(losses: Tensor, *, gamma: float) -> Tensor:
    """`(1 - e^-l)^gamma l` (Eq. 4 of arXiv:1708.02002, where `e^-l` is the probability `p_t`).

    The code released with LDAM (arXiv:1906.07413) multiplies by class weights before this, so
    that they enter the exponent and `e^-l` is no probability any more; the paper of the focal loss
    weights outside. Ours is unweighted: weights are the caller's, who may put them on either side.

    Args:
        losses: (B,) >= 0, cross-entropies.
        gamma: >= 0; 0 changes nothing.

    Returns:
        (B,) losses.
    """
    # 1 - e^-l without cancellation; at 0 a power below 1 would have an infinite slope.
    missing = -torch.expm1(-losses)
    return missing.clamp(min=torch.finfo(losses.dtype).tiny) ** gamma * losses


def focal(logits: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """Softmax focal loss `-(1 - p_y)^gamma log p_y`.

    Args:
        logits: (B, C).
        labels: (B,) int64, `y`.
        gamma: >= 0; 0 is cross-entropy.

    Returns:
        (B,) losses.
    """
    return focal_of(cross_entropy(logits, labels), gamma=gamma)


def check_gamma(gamma: float) -> None:
    """Refuses what is no exponent.

    Raises:
        ConfigError: `gamma` negative or not finite.
    """
    if not 0 <= gamma < float("inf"):
        raise ConfigError(f"--gamma: {gamma}, must be at least 0 and finite")


@dataclass(frozen=True)
class FocalOptions:
    """Options of the focal loss; gamma is its paper's."""

    gamma: float = 2.0
    """How fast images count less as they are learned; 0: cross-entropy."""

    def __post_init__(self) -> None:
        check_gamma(self.gamma)


class Focal(nn.Module):
    """`focal` as a module; the class counts are of no use to it.

    Args:
        counts_per_class: (C,) training images of each class.
        options: `gamma`.
    """

    def __init__(self, counts_per_class: Tensor, options: FocalOptions) -> None:
        super().__init__()
        self.gamma = options.gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits."""
        return focal(logits, labels, gamma=self.gamma)
