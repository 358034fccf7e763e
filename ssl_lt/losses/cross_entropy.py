"""Cross-entropy: the baseline that every long-tailed loss is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy of each sample: `-log softmax(f)_y`.

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64, `y` in 0 ... C-1.

    Returns:
        (B,) losses.
    """
    return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class CrossEntropyOptions:
    """Cross-entropy has nothing to choose."""


class CrossEntropy(nn.Module):
    """`cross_entropy` as a module; the class counts are of no use to it.

    Args:
        counts_per_class: (C,) training images of each class.
        options: none.
    """

    def __init__(self, counts_per_class: Tensor, options: CrossEntropyOptions) -> None:
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits."""
        return cross_entropy(logits, labels)
