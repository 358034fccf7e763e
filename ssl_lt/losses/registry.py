"""The losses that `finetune.py --loss` knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ssl_lt.losses.balanced_contrastive import BalancedContrastiveLoss, BalancedContrastiveOptions
from ssl_lt.losses.balanced_softmax import BalancedSoftmaxOptions, balanced_softmax
from ssl_lt.losses.class_balanced import (
    ClassBalancedFocalOptions,
    ClassBalancedOptions,
    cb_focal,
    cb_sigmoid,
    cb_softmax,
    one_against_all_bias,
)
from ssl_lt.losses.cross_entropy import CrossEntropyLoss, CrossEntropyOptions
from ssl_lt.losses.focal import FocalLoss, FocalOptions
from ssl_lt.losses.ldam import LdamLoss, LdamOptions, ldam_hinge_loss
from ssl_lt.losses.logit_adjustment import LogitAdjustmentLoss, LogitAdjustmentOptions
from ssl_lt.losses.pairwise_margin import PairwiseMarginLoss, PairwiseMarginOptions
from ssl_lt.losses.rebalanced_contrastive import (
    BalancedRebalancedOptions,
    RebalancedContrastiveLoss,
    RebalancedOptions,
    balanced_rebalanced,
)
from ssl_lt.losses.supervised_contrastive import (
    SupervisedContrastiveLoss,
    SupervisedContrastiveOptions,
)
from ssl_lt.losses.vector_scaling import VectorScalingLoss, VectorScalingOptions

# (counts_per_class (C,), options) -> module.
Build = Callable[[Tensor, Any], nn.Module]


@dataclass(frozen=True)
class LossEntry:
    """A classification loss, and for some a contrast of two more views beside it.

    Attributes:
        build: the classification: (B, C) logits, (B,) labels -> (B,).
        options: frozen dataclass whose fields become flags; `ContrastOptions` with a contrast.
        description: one line, with the source.
        contrast: the contrast: `LabelledRows`, (C, D) prototypes or None -> (A,); it has
            `uses_prototypes`. None: there is no contrast.
        initial_bias: number of classes -> what the biases of a linear classifier start at. None:
            whatever the classifier has.
    """

    build: Build
    options: type[Any]
    description: str
    contrast: Build | None = None
    initial_bias: Callable[[int], float] | None = None

    @property
    def has_views(self) -> bool:
        """Two contrastive views beside the classified one, set with `--view.*`."""
        return self.contrast is not None


LOSSES: dict[str, LossEntry] = {
    "ce": LossEntry(CrossEntropyLoss, CrossEntropyOptions, "cross-entropy"),
    "la": LossEntry(
        LogitAdjustmentLoss, LogitAdjustmentOptions, "logit adjustment (arXiv:2007.07314)"
    ),
    "balanced_softmax": LossEntry(
        balanced_softmax, BalancedSoftmaxOptions, "balanced softmax (arXiv:2007.10740)"
    ),
    "pairwise": LossEntry(
        PairwiseMarginLoss, PairwiseMarginOptions, "pairwise margins (arXiv:2007.07314, Eq. 11)"
    ),
    "vs": LossEntry(
        VectorScalingLoss,
        VectorScalingOptions,
        "vector scaling (arXiv:2103.01550), truncated as in TLA on demand",
    ),
    "focal": LossEntry(FocalLoss, FocalOptions, "focal loss (arXiv:1708.02002)"),
    "cb_softmax": LossEntry(
        cb_softmax, ClassBalancedOptions, "class-balanced cross-entropy (arXiv:1901.05555)"
    ),
    "cb_sigmoid": LossEntry(
        cb_sigmoid,
        ClassBalancedOptions,
        "class-balanced sigmoid loss (arXiv:1901.05555)",
        initial_bias=one_against_all_bias,
    ),
    "cb_focal": LossEntry(
        cb_focal,
        ClassBalancedFocalOptions,
        "class-balanced focal loss (arXiv:1901.05555)",
        initial_bias=one_against_all_bias,
    ),
    "ldam": LossEntry(
        LdamLoss, LdamOptions, "LDAM (arXiv:1906.07413); goes with --classifier cosine"
    ),
    "ldam_hinge": LossEntry(ldam_hinge_loss, LdamOptions, "LDAM's hinge loss (arXiv:1906.07413)"),
    "scl": LossEntry(
        LogitAdjustmentLoss,
        SupervisedContrastiveOptions,
        "supervised contrast (arXiv:2004.11362) beside logit adjustment",
        SupervisedContrastiveLoss,
    ),
    "bcl": LossEntry(
        LogitAdjustmentLoss,
        BalancedContrastiveOptions,
        "balanced contrastive learning (CVPR 2022, arXiv:2207.09052)",
        BalancedContrastiveLoss,
    ),
    "rcl": LossEntry(
        LogitAdjustmentLoss,
        RebalancedOptions,
        "rebalanced contrastive learning (arXiv:2312.01753, Eq. 4)",
        RebalancedContrastiveLoss,
    ),
    "bcl_rcl": LossEntry(
        LogitAdjustmentLoss,
        BalancedRebalancedOptions,
        "balanced and rebalanced contrast (arXiv:2312.01753, Eq. 5)",
        balanced_rebalanced,
    ),
}
