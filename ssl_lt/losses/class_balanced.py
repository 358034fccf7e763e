"""Class-balanced losses: an image counts by the effective number of its class's images.

`w_y l(f, y)` with `w` of `effective_number_weights`, for three `l` (arXiv:1901.05555).
The paper's own TensorFlow code divides by the batch size, so these are per-sample losses to be
averaged; PyTorch's `CrossEntropyLoss(weight=w)` divides by the weights of the batch instead, and
the popular port to PyTorch takes binary cross-entropy of softmax probabilities for `softmax` and
averages `sigmoid` over classes. We follow the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.losses.cross_entropy import cross_entropy
from ssl_lt.losses.effective_number import check_beta, effective_number_weights
from ssl_lt.losses.focal import check_gamma


def sigmoid_focal(logits: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """Focal loss of C one-against-all classifiers, summed over them (arXiv:1901.05555).

    `sum_j -(1 - p_j)^gamma log p_j` with `p_j = sigmoid(s_j f_j)`, `s_y = 1` and `s_j = -1`
    elsewhere.

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64, `y`.
        gamma: >= 0; 0 is the sum of binary cross-entropies.

    Returns:
        (B,) losses.
    """
    signed = torch.where(F.one_hot(labels, logits.shape[1]).bool(), logits, -logits)
    # 1 - sigmoid(x) is sigmoid(-x); as exponentials of softplus, neither cancels.
    return (torch.exp(-gamma * F.softplus(signed)) * F.softplus(-signed)).sum(dim=1)


def one_against_all_bias(num_classes: int) -> float:
    """`-log(C - 1)`: with it each of C sigmoids starts at the probability `1 / C`.

    The paper's value, without which C - 1 wrong classes dominate the first steps. It also takes
    this bias out of weight decay; here `--decay weights` does, for all biases and norms.
    """
    return -math.log(num_classes - 1)


@dataclass(frozen=True)
class ClassBalancedOptions:
    """Options of the class-balanced losses; beta is the largest of the paper's grid."""

    beta: float = 0.9999
    """Overlap of a class's images; 0: classes weigh the same, towards 1: by inverse count."""

    def __post_init__(self) -> None:
        check_beta(self.beta)


@dataclass(frozen=True)
class ClassBalancedFocalOptions(ClassBalancedOptions):
    """Options of the class-balanced focal loss; gamma is of the paper's grid {0.5, 1, 2}."""

    gamma: float = 1.0
    """How fast images count less as they are learned; 0: sigmoid cross-entropy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gamma(self.gamma)


class ClassBalanced(nn.Module):
    """`w_y l(f, y)`.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: `beta`.
        base: `l`, (logits, labels) -> (B,).

    Raises:
        ConfigError: a class without images.
    """

    weights: Tensor

    def __init__(
        self,
        counts_per_class: Tensor,
        options: ClassBalancedOptions,
        base: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.base = base
        # Follows from the data, so it is not saved with the weights of the network.
        weights = effective_number_weights(counts_per_class, beta=options.beta)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits."""
        return self.weights[labels] * self.base(logits, labels)


def cb_softmax(counts_per_class: Tensor, options: ClassBalancedOptions) -> ClassBalanced:
    """Class-balanced cross-entropy."""
    return ClassBalanced(counts_per_class, options, cross_entropy)


def cb_sigmoid(counts_per_class: Tensor, options: ClassBalancedOptions) -> ClassBalanced:
    """Class-balanced sum of binary cross-entropies."""
    return ClassBalanced(counts_per_class, options, partial(sigmoid_focal, gamma=0.0))


def cb_focal(counts_per_class: Tensor, options: ClassBalancedFocalOptions) -> ClassBalanced:
    """Class-balanced sum of binary focal losses."""
    return ClassBalanced(counts_per_class, options, partial(sigmoid_focal, gamma=options.gamma))
