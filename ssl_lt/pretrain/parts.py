"""What every two-view method is put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_lt.core.processes.distributed import gather_rows, own_rows
from ssl_lt.core.types import View
from ssl_lt.losses.nt_xent import PairKeys
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


def pair_keys(z1: Tensor, z2: Tensor) -> PairKeys:
    """Projections of all ranks, with gradient, for anchors (B, D) of this rank."""
    both = gather_rows(torch.cat([z1, z2], dim=1))
    width = z1.shape[1]
    own = own_rows(z1.shape[0], device=z1.device)
    return PairKeys(both[:, :width], both[:, width:], own)
