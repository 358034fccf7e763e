"""LoRA (arXiv:2106.09685) on queries and values: `W + (A B)^T / r`, as in LIFT (arXiv:2309.10019).

LIFT keeps A as (in, r) and initialises it as if r were the number of inputs, so that its entries
are within 1 / sqrt(r); so do we. B is zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.tuning.insertion import (
    Insertion,
    bottleneck,
    network_name,
    put,
    transformer_blocks,
)

KIND = "lora"


class LowRank(Insertion):
    """`x A B / r`.

    Args:
        num_in: width of x.
        num_out: width of the result.
        rank: r.
    """

    def __init__(self, num_in: int, num_out: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(num_in, rank))
        self.b = nn.Parameter(torch.zeros(rank, num_out))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., num_in) -> (..., num_out)."""
        return x @ self.a @ self.b / len(self.b)


class QueryAndValue(Insertion):
    """Beside one layer that gives query, key and value; the key stays as it is.

    Args:
        width: of the layer's input.
        num_out: width of each of the three.
        rank: r.
    """

    def __init__(self, width: int, num_out: int, rank: int) -> None:
        super().__init__()
        self.q, self.v = LowRank(width, num_out, rank), LowRank(width, num_out, rank)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., 3 num_out)."""
        q, v = self.q(x), self.v(x)
        return torch.cat([q, torch.zeros_like(q), v], dim=-1)


class LowRankLinear(nn.Linear):
    """A linear layer and what is inserted into it."""

    lora: Insertion

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        out: Tensor = super().forward(input) + self.lora(input)
        return out


def insert(backbone: nn.Module, num_classes: int, dim: int | None) -> None:
    """Puts low-rank updates of query and value into each block.

    Raises:
        ConfigError: there are no transformer blocks, or their attention is of another kind.
    """
    blocks = transformer_blocks(backbone, kind=KIND)
    rank = dim or bottleneck(num_classes, len(blocks))
    for block in blocks:
        for layer, inserted in _places(block.attn, rank):
            put(layer, KIND, inserted, tuned=LowRankLinear)
        if not any(isinstance(layer, LowRankLinear) for layer in block.attn.children()):
            raise ConfigError(
                f"--tune lora: the attention of {network_name(backbone)} has neither one linear "
                "layer for query, key and value nor one for each"
            )


def _places(attention: Any, rank: int) -> list[tuple[nn.Linear, Insertion]]:
    """Layers and what goes into them; none where the layers are not used as layers."""
    fused = getattr(attention, "qkv", None)
    if type(fused) is nn.Linear:
        width = attention.num_heads * attention.head_dim
        # With biases of its own EVA's attention takes the weight out of the layer, past us.
        if fused.out_features != 3 * width or getattr(attention, "q_bias", None) is not None:
            return []
        return [(fused, QueryAndValue(fused.in_features, width, rank))]
    apart = [getattr(attention, name, None) for name in ("q_proj", "v_proj")]
    return [
        (layer, LowRank(layer.in_features, layer.out_features, rank))
        for layer in apart
        if type(layer) is nn.Linear
    ]


def merge(
    weight: Tensor, bias: Tensor | None, inserted: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a plain layer that gives the same."""
    if "a" in inserted:
        return weight + _update(inserted["a"], inserted["b"]), bias
    q, v = (_update(inserted[f"{part}.a"], inserted[f"{part}.b"]) for part in "qv")
    return weight + torch.cat([q, torch.zeros_like(q), v]), bias


def _update(a: Tensor, b: Tensor) -> Tensor:
    """(out, in)."""
    return (a @ b).T / len(b)
