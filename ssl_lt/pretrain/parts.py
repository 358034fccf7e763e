"""What every two-view method is put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ssl_lt.core.types import View
from ssl_lt.pretrain.two_views import Plugin


@dataclass(frozen=True)
class TwoViewParts:
    """Built outside a method and handed to it.

    Attributes:
        backbone: (B, 3, S, S) -> (B, F).
        projector: (B, F) -> (B, D).
        view: makes one augmented view of a batch.
        plugins: add strength, terms and memory.
        num_samples: N, size of the training set.
    """

    backbone: nn.Module
    projector: nn.Module
    view: View
    plugins: Sequence[Plugin]
    num_samples: int
