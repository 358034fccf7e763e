"""The labels of mixed images, and what a loss is of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixedLabels:
    """Labels of images that are `own_share` themselves and otherwise their partners.

    Attributes:
        own: (B,) int64 classes.
        partner: (B,) int64 classes of the partners; None: nothing is mixed.
        own_share: (B,) in [0, 1], `lam`; None: nothing is mixed.
    """

    own: Tensor
    partner: Tensor | None = None
    own_share: Tensor | None = None

    def average(self, value: Callable[[Tensor], Tensor]) -> Tensor:
        """`lam v(y_a) + (1 - lam) v(y_b)`: the loss of mixup (arXiv:1710.09412) and of CutMix.

        Args:
            value: (B,) labels -> (B,), such as the losses with these labels.

        Returns:
            (B,); `value(own)` itself where nothing is mixed.
        """
        if self.partner is None or self.own_share is None:
            return value(self.own)
        return self.own_share * value(self.own) + (1 - self.own_share) * value(self.partner)

    def right(self, predictions: Tensor) -> Tensor:
        """(B,) float32: how much of each label the prediction (B,) has found."""
        return self.average(lambda labels: (predictions == labels).float())

    def shares(self, num_classes: int) -> Tensor:
        """(B, C) float32: how much of each label is of each class."""
        classes = torch.arange(num_classes, device=self.own.device)
        own = (self.own[:, None] == classes).float()
        if self.partner is None or self.own_share is None:
            return own
        lam = self.own_share[:, None]
        return lam * own + (1 - lam) * (self.partner[:, None] == classes)
