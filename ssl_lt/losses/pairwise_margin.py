"""The pairwise margin loss, the family that logit adjustment and the balanced loss belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.class_counts import positive_counts
from ssl_lt.losses.cross_entropy import cross_entropy


def pairwise_margin(logits: Tensor, labels: Tensor, margins: Tensor, weights: Tensor) -> Tensor:
    """`alpha_y log[1 + sum_{j != y} e^Delta_yj e^(f_j - f_y)]` (Eq. 11 of arXiv:2007.07314).

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64, `y`.
        margins: (C, C), `Delta`, row y of label y; 0 on the diagonal.
        weights: (C,), `alpha`.

    Returns:
        (B,) losses.
    """
    # With Delta_yy = 0, the 1 is the label's own term of a softmax.
    return weights[labels] * cross_entropy(logits + margins[labels], labels)


def consistent_parameters(prior: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Margins and weights with which the loss is Fisher consistent for the balanced error.

    `alpha_y = delta_y / pi_y` and `Delta_yj = log(delta_j / delta_y)` (Theorem 1 of
    arXiv:2007.07314), for any `delta > 0`. `delta = pi` gives logit adjustment, `delta = 1` the
    balanced loss.

    A factor on `delta` multiplies the loss and changes nothing else. We take the one with which
    `delta` sums to 1: then weights average 1 over the training images, and the loss stays on the
    scale of cross-entropy.

    Args:
        prior: (C,) > 0, `pi`, sums to 1.
        delta: (C,) > 0.

    Returns:
        (C, C) margins and (C,) weights.
    """
    log_delta = delta.log()
    return log_delta - log_delta[:, None], delta / delta.sum() / prior


@dataclass(frozen=True)
class PairwiseMarginOptions:
    """Options of the pairwise margin loss."""

    member: Literal["la", "balanced"] = "la"
    """Member of the family: la (margins alone), or balanced (weights alone, 1 / prior)."""

    def __post_init__(self) -> None:
        if self.member not in ("la", "balanced"):
            raise ConfigError(f"--member: {self.member!r}, must be la or balanced")


class PairwiseMargin(nn.Module):
    """`pairwise_margin` as a module.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: which member.

    Raises:
        ConfigError: a class without images.
    """

    margins: Tensor
    weights: Tensor

    def __init__(self, counts_per_class: Tensor, options: PairwiseMarginOptions) -> None:
        super().__init__()
        counts = positive_counts(counts_per_class)
        prior = counts / counts.sum()
        delta = prior if options.member == "la" else torch.ones_like(prior)
        margins, weights = consistent_parameters(prior, delta)
        # They follow from the data, so they are not saved with the weights of the network.
        self.register_buffer("margins", margins, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits."""
        return pairwise_margin(logits, labels, self.margins, self.weights)


def balanced_cross_entropy(counts_per_class: Tensor) -> PairwiseMargin:
    """The member `balanced`: cross-entropy with `w_j = N / (C n_j)`, N images in all.

    Over uniform samples its expectation is that of plain cross-entropy over class-balanced ones:
    `w` is how much likelier those are to draw an image.

    Args:
        counts_per_class: (C,) training images `n_j` of each class, none of them 0.

    Raises:
        ConfigError: a class without images.
    """
    return PairwiseMargin(counts_per_class, PairwiseMarginOptions(member="balanced"))
