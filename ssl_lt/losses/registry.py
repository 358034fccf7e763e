"""The losses that `finetune.py --loss` knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ssl_lt.losses.cross_entropy import CrossEntropyLoss, CrossEntropyOptions
from ssl_lt.losses.logit_adjustment import LogitAdjustmentLoss, LogitAdjustmentOptions


@dataclass(frozen=True)
class LossEntry:
    """A classification loss.

    Attributes:
        build: (counts_per_class (C,), options) -> module: (B, C) logits, (B,) labels -> (B,).
        options: frozen dataclass whose fields become flags.
        description: one line, with the source.
    """

    build: Callable[[Tensor, Any], nn.Module]
    options: type[Any]
    description: str


LOSSES: dict[str, LossEntry] = {
    "ce": LossEntry(CrossEntropyLoss, CrossEntropyOptions, "cross-entropy"),
    "la": LossEntry(
        LogitAdjustmentLoss, LogitAdjustmentOptions, "logit adjustment (arXiv:2007.07314)"
    ),
}
