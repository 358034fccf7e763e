"""Losses of logits, as `finetune.py --loss` knows them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lt.losses.balanced_softmax import BalancedSoftmaxOptions, balanced_softmax
from ssl_lt.losses.cross_entropy import CrossEntropy, CrossEntropyOptions
from ssl_lt.losses.focal import Focal, FocalOptions
from ssl_lt.losses.ldam import Ldam, LdamOptions, ldam_hinge_loss
from ssl_lt.losses.logit_adjustment import LogitAdjustment, LogitAdjustmentOptions
from ssl_lt.losses.modules.inputs import (
    Counts,
    Reduction,
    checked_counts,
    checked_logits,
    checked_reduction,
    reduced,
)
from ssl_lt.losses.pairwise_margin import PairwiseMargin, PairwiseMarginOptions
from ssl_lt.losses.vector_scaling import VectorScaling, VectorScalingOptions

_NO_COUNTS = torch.empty(0)


class ClassificationLoss(nn.Module):
    """What all losses of logits share; a class of its own for each of them follows.

    Computed in fp32, outside autocast, or in float64 where the logits are.

    Args:
        per_sample: (B, C) logits, (B,) labels -> (B,): what `finetune.py` trains with.
        counts: (C,); None: it has none, and fits any number of classes.
        reduction: "mean" or "sum" over the samples, or "none".

    Raises:
        ConfigError: an unknown reduction.
    """

    def __init__(self, per_sample: nn.Module, counts: Tensor | None, reduction: Reduction) -> None:
        super().__init__()
        self.per_sample = per_sample
        self.num_classes = None if counts is None else len(counts)
        self.reduction = checked_reduction(reduction)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss.

        Args:
            logits: (B, C) of any floating type.
            labels: (B,) integers in 0 ... C-1.

        Returns:
            A scalar, or (B,) where nothing is reduced.

        Raises:
            ConfigError: other shapes or types, another number of classes than the counts have, or
                a label outside the classes.
        """
        logits, labels = checked_logits(logits, labels, num_classes=self.num_classes)
        with torch.autocast(logits.device.type, enabled=False):
            losses: Tensor = self.per_sample(logits, labels)
        return reduced(losses, self.reduction)


class CrossEntropyLoss(ClassificationLoss):
    """`-log softmax(f)_y`, that of torch: the baseline (`--loss ce`).

    Args:
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        per_sample = CrossEntropy(_NO_COUNTS, CrossEntropyOptions())
        super().__init__(per_sample, None, reduction)


class FocalLoss(ClassificationLoss):
    """`-(1 - p_y)^gamma log p_y` (Eq. 4 of arXiv:1708.02002; `--loss focal`).

    Args:
        gamma: at least 0; 0 is cross-entropy.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: `gamma` negative or not finite.
    """

    def __init__(self, gamma: float = 2.0, *, reduction: Reduction = "mean") -> None:
        per_sample = Focal(_NO_COUNTS, FocalOptions(gamma))
        super().__init__(per_sample, None, reduction)


class LogitAdjustedLoss(ClassificationLoss):
    """Cross-entropy of `f + tau log pi` (Eq. 10 of arXiv:2007.07314; `--loss la`).

    The adjustment belongs to training; predictions take the plain logits.

    Args:
        counts: (C,) training images of each class, none of them 0.
        tau: strength; 0 is cross-entropy.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: counts that are no numbers above 0, or `tau` negative or not finite.
    """

    def __init__(self, counts: Counts, tau: float = 1.0, *, reduction: Reduction = "mean") -> None:
        found = checked_counts(counts)
        super().__init__(LogitAdjustment(found, LogitAdjustmentOptions(tau)), found, reduction)


class BalancedSoftmaxLoss(ClassificationLoss):
    """Cross-entropy of `f + log n` (arXiv:2007.10740; `--loss balanced_softmax`).

    Args:
        counts: (C,) training images of each class, none of them 0.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: counts that are no numbers above 0.
    """

    def __init__(self, counts: Counts, *, reduction: Reduction = "mean") -> None:
        found = checked_counts(counts)
        super().__init__(balanced_softmax(found, BalancedSoftmaxOptions()), found, reduction)


class PairwiseMarginLoss(ClassificationLoss):
    """`alpha_y log[1 + sum_{j != y} e^Delta_yj e^(f_j - f_y)]` (Eq. 11 of arXiv:2007.07314).

    `--loss pairwise`.

    Args:
        counts: (C,) training images of each class, none of them 0.
        member: "la" (margins alone), or "balanced" (weights alone, 1 / prior).
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: counts that are no numbers above 0, or another member.
    """

    def __init__(
        self,
        counts: Counts,
        member: Literal["la", "balanced"] = "la",
        *,
        reduction: Reduction = "mean",
    ) -> None:
        found = checked_counts(counts)
        super().__init__(PairwiseMargin(found, PairwiseMarginOptions(member)), found, reduction)


class VectorScalingLoss(ClassificationLoss):
    """Cross-entropy of `beta_j f_j + tau log pi_j`, `beta_j = (n_j / n_max)^gamma`.

    VS of arXiv:2103.01550 (`--loss vs`), without its weights.

    Args:
        counts: (C,) training images of each class, none of them 0.
        tau: strength of the shift.
        gamma: of the factors; 0 gives logit adjustment.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: counts that are no numbers above 0; `tau` or `gamma` negative or not finite.
    """

    def __init__(
        self,
        counts: Counts,
        tau: float = 1.0,
        gamma: float = 0.3,
        *,
        reduction: Reduction = "mean",
    ) -> None:
        found, options = checked_counts(counts), VectorScalingOptions(tau=tau, gamma=gamma)
        super().__init__(VectorScaling(found, options), found, reduction)


class LDAMLoss(ClassificationLoss):
    """Cross-entropy with margins `m_j ~ n_j^(-1/4)` (arXiv:1906.07413; `--loss ldam`).

    Args:
        counts: (C,) training images of each class, none of them 0.
        max_margin: margin of the rarest class, in cosines.
        scale: logits are cosines times this; 1 where margins are of logits.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: counts that are no numbers above 0, or `max_margin` or `scale` out of range.
    """

    def __init__(
        self,
        counts: Counts,
        max_margin: float = 0.5,
        scale: float = 30.0,
        *,
        reduction: Reduction = "mean",
    ) -> None:
        found = checked_counts(counts)
        super().__init__(Ldam(found, LdamOptions(max_margin, scale)), found, reduction)


class LDAMHingeLoss(ClassificationLoss):
    """`max(max_{j != y} f_j - f_y + m_y, 0)`, LDAM-HG of arXiv:1906.07413 (`--loss ldam_hinge`).

    Args:
        counts: (C,) training images of each class, none of them 0.
        max_margin: margin of the rarest class, in cosines.
        scale: logits are cosines times this; 1 where margins are of logits.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: counts that are no numbers above 0, or `max_margin` or `scale` out of range.
    """

    def __init__(
        self,
        counts: Counts,
        max_margin: float = 0.5,
        scale: float = 30.0,
        *,
        reduction: Reduction = "mean",
    ) -> None:
        found = checked_counts(counts)
        super().__init__(ldam_hinge_loss(found, LdamOptions(max_margin, scale)), found, reduction)
