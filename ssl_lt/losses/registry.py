"""The losses that `finetune.py --loss` knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ssl_lt.losses.balanced_contrastive import BalancedContrastiveLoss, BalancedContrastiveOptions
from ssl_lt.losses.cross_entropy import CrossEntropyLoss, CrossEntropyOptions
from ssl_lt.losses.logit_adjustment import LogitAdjustmentLoss, LogitAdjustmentOptions
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
    """

    build: Build
    options: type[Any]
    description: str
    contrast: Build | None = None

    @property
    def has_views(self) -> bool:
        """Two contrastive views beside the classified one, set with `--view.*`."""
        return self.contrast is not None


LOSSES: dict[str, LossEntry] = {
    "ce": LossEntry(CrossEntropyLoss, CrossEntropyOptions, "cross-entropy"),
    "la": LossEntry(
        LogitAdjustmentLoss, LogitAdjustmentOptions, "logit adjustment (arXiv:2007.07314)"
    ),
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
