"""Losses weighted by effective numbers, as `finetune.py --loss cb_*` knows them."""

from __future__ import annotations

from ssl_lt.losses.class_balanced import (
    ClassBalancedFocalOptions,
    ClassBalancedOptions,
    cb_focal,
    cb_sigmoid,
    cb_softmax,
)
from ssl_lt.losses.modules.classification import ClassificationLoss
from ssl_lt.losses.modules.inputs import Counts, Reduction, checked_counts


class ClassBalancedSoftmaxLoss(ClassificationLoss):
    """`w_y` times cross-entropy, `w` by effective numbers (arXiv:1901.05555; `--loss cb_softmax`).

    Args:
        counts: (C,) training images of each class, none of them 0.
        beta: in [0, 1); 0 gives cross-entropy, towards 1 weights are inverse counts.
        reduction: "mean", "sum" or "none"; the mean divides by B, not by the weights.

    Raises:
        ConfigError: counts that are no numbers above 0, or `beta` outside [0, 1).
    """

    def __init__(
        self, counts: Counts, beta: float = 0.9999, *, reduction: Reduction = "mean"
    ) -> None:
        found = checked_counts(counts)
        super().__init__(cb_softmax(found, ClassBalancedOptions(beta)), found, reduction)


class ClassBalancedSigmoidLoss(ClassificationLoss):
    """`w_y` times the sum of C binary cross-entropies (arXiv:1901.05555; `--loss cb_sigmoid`).

    Start the biases of the classifier at `-log(C - 1)`, as the paper and `finetune.py` do.

    Args:
        counts: (C,) training images of each class, none of them 0.
        beta: in [0, 1), as in `ClassBalancedSoftmaxLoss`.
        reduction: "mean", "sum" or "none"; the mean divides by B, not by the weights.

    Raises:
        ConfigError: counts that are no numbers above 0, or `beta` outside [0, 1).
    """

    def __init__(
        self, counts: Counts, beta: float = 0.9999, *, reduction: Reduction = "mean"
    ) -> None:
        found = checked_counts(counts)
        super().__init__(cb_sigmoid(found, ClassBalancedOptions(beta)), found, reduction)


class ClassBalancedFocalLoss(ClassificationLoss):
    """`w_y` times the sum of C binary focal losses (arXiv:1901.05555; `--loss cb_focal`).

    Start the biases of the classifier at `-log(C - 1)`, as the paper and `finetune.py` do.

    Args:
        counts: (C,) training images of each class, none of them 0.
        beta: in [0, 1), as in `ClassBalancedSoftmaxLoss`.
        gamma: at least 0; 0 gives `ClassBalancedSigmoidLoss`.
        reduction: "mean", "sum" or "none"; the mean divides by B, not by the weights.

    Raises:
        ConfigError: counts that are no numbers above 0, or `beta` or `gamma` out of range.
    """

    def __init__(
        self,
        counts: Counts,
        beta: float = 0.9999,
        gamma: float = 1.0,
        *,
        reduction: Reduction = "mean",
    ) -> None:
        found, options = checked_counts(counts), ClassBalancedFocalOptions(beta, gamma)
        super().__init__(cb_focal(found, options), found, reduction)
