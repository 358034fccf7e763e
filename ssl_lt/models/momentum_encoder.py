"""A copy of a network that follows it slowly."""

from __future__ import annotations

import copy
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MomentumEncoder(nn.Module):
    """Modules applied one after the other, without gradient, whose weights are moving averages.

    Weights are averaged and buffers are not: batch norms here have running statistics of their
    own, and while they train they use those of the batch (MoCo, arXiv:1911.05722).

    Args:
        modules: the network that is followed, copied as it stands.
        momentum: `m`, the share of the copy that stays in each step.
    """

    def __init__(self, *modules: nn.Module, momentum: float) -> None:
        super().__init__()
        self.copies = nn.Sequential(*copy.deepcopy(modules)).requires_grad_(False)  # noqa: FBT003
        self.average = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]

    def restart(self, *modules: nn.Module) -> None:
        """Takes over weights and buffers of the network as it is now."""
        for own, other in zip(self.copies, modules, strict=True):
            own.load_state_dict(other.state_dict())

    def follow(self, *modules: nn.Module) -> None:
        """`w <- m w + (1 - m) v` for every weight `w` and the network's own `v`."""
        followed = chain.from_iterable(module.parameters() for module in modules)
        self.average(list(self.copies.parameters()), list(followed), 0)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """What the copy makes of x; no gradient."""
        return cast(Tensor, self.copies(x))
