"""AdaptFormer (arXiv:2205.13535) as LIFT (arXiv:2309.10019) has it: a small network by each MLP.

`x <- x + MLP(norm(x)) + s up(relu(down(LN(x))))`: the adapter has a norm of its own, and begins as
zero. It cannot be merged: it is not linear. Where a block scales its MLP (DINOv2, EVA), the adapter
is added after that, so that a scale near zero does not silence it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.models.tuning.insertion import bottleneck, transformer_blocks

KIND = "adaptformer"


class Adapter(nn.Module):
    """`s up(relu(down(LN(x))))`.

    Args:
        width: of x.
        dim: of the bottleneck.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, dim)
        self.up = nn.Linear(dim, width)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.kaiming_normal_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        adapted: Tensor = self.up(F.relu(self.down(self.norm(x))))
        return adapted * self.scale


class BesideMlp(nn.Module):
    """Takes the place of what a block applies last to its MLP's output: its stochastic depth.

    Args:
        drop_path: that it replaces; it has no weights.
        adapter: of this block.
    """

    def __init__(self, drop_path: nn.Module, adapter: Adapter) -> None:
        super().__init__()
        self.drop_path, self.adaptformer = drop_path, adapter
        self.seen: Tensor | None = None

    def see(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Called before the norm in front of the MLP, with what that block's MLP is added to."""
        self.seen = inputs[0]

    def forward(self, branch: Tensor) -> Tensor:
        """(B, N, width) of the MLP and of the adapter."""
        seen, self.seen = self.seen, None
        out: Tensor = self.drop_path(branch + self.adaptformer(seen))
        return out


def insert(backbone: nn.Module, num_classes: int, dim: int | None) -> None:
    """Puts an adapter into each block.

    Raises:
        ConfigError: there are no transformer blocks.
    """
    blocks = transformer_blocks(backbone, kind=KIND)
    dim = dim or bottleneck(num_classes, len(blocks))
    for block in blocks:
        width = block.norm2.normalized_shape[0]
        block.drop_path2 = BesideMlp(block.drop_path2, Adapter(width, dim))
        block.norm2.register_forward_pre_hook(block.drop_path2.see)
