"""SSF (arXiv:2210.08823): a scale and a shift after each operation, by channel.

An operation is a layer that has a bias: a linear layer, a convolution or a norm. A convolution
without one, as in ResNets, is one operation with the batch norm that follows it, so the last of a
block's branch is scaled and shifted before it is added. After the addition it could not be merged
into a plain network: the shortcut would have to be scaled, too.

The paper draws scales and shifts near 1 and 0. Ours are 1 and 0, so that training starts from the
network as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lt.models.tuning.insertion import Insertion, put

KIND = "ssf"


class ScaleShift(Insertion):
    """`scale x + shift`.

    Args:
        width: number of channels.
        channel_dim: their dimension.
    """

    def __init__(self, width: int, *, channel_dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.channel_dim = channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Like x."""
        shape = [1] * x.ndim
        shape[self.channel_dim] = -1
        return x * self.scale.view(shape) + self.shift.view(shape)


class _Scaled(nn.Module):
    """Stands before the class of a layer."""

    ssf: ScaleShift

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.ssf(super().forward(x)))


class _ScaledBatchNorm(nn.Module):
    """A batch norm of running statistics alone.

    It is none of torch's kinds, so that no one synchronises what several processes see.
    """

    ssf: ScaleShift
    running_mean: Tensor
    running_var: Tensor
    weight: nn.Parameter
    bias: nn.Parameter
    eps: float

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.ssf.scale
        bias = self.bias * self.ssf.scale + self.ssf.shift
        x = F.batch_norm(x, self.running_mean, self.running_var, weight, bias, eps=self.eps)
        # timm's norm-and-activation layers keep their dropout and activation as children.
        for name, child in self.named_children():
            x = x if name == KIND else child(x)
        return x


def insert(backbone: nn.Module, num_classes: int, dim: int | None) -> None:
    """Puts a scale and a shift behind each operation."""
    from timm.layers import LayerNorm, LayerNorm2d  # seconds to import

    channel_dims = {nn.Linear: -1, nn.Conv2d: 1, nn.LayerNorm: -1, LayerNorm: -1, LayerNorm2d: 1}
    tuned = {kind: type(f"Scaled{kind.__name__}", (_Scaled, kind), {}) for kind in channel_dims}
    for layer in list(backbone.modules()):
        kind, bias = type(layer), getattr(layer, "bias", None)
        if bias is None:
            continue
        if isinstance(layer, _BatchNorm):
            put(layer, KIND, ScaleShift(len(bias), channel_dim=1), tuned=_ScaledBatchNorm)
        elif kind in tuned:
            inserted = ScaleShift(len(bias), channel_dim=channel_dims[kind])
            put(layer, KIND, inserted, tuned=tuned[kind])


def merge(
    weight: Tensor, bias: Tensor | None, inserted: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a plain layer that gives the same."""
    assert bias is not None
    scale = inserted["scale"]
    scaled = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    return scaled, bias * scale + inserted["shift"]
