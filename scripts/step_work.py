"""What a training step computes, and what it moves at least.

FLOPs are two for a product and a sum, of all matrix products and convolutions. Bytes are those that
fused operations would move too: what the forward pass keeps for the backward pass, written once and
read once, and the weights, their gradients and the optimiser's state, each read once and written
once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

_ATEN = torch.ops.aten
_CONVOLUTIONS = (_ATEN.convolution, _ATEN.convolution_backward)


@dataclass(frozen=True)
class Layer:
    """A convolution as a step calls it.

    Attributes:
        x, weight, y: shapes of the input, (B, C, H, W), the weight and the output.
        dtype: of all three.
        settings: stride, padding, dilation, transposed, output padding and groups.
        needs_input_gradient: all but a network's first do.
    """

    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    dtype: torch.dtype
    settings: tuple[Any, ...]
    needs_input_gradient: bool

    @property
    def flops(self) -> int:
        """Of its forward pass; either gradient takes as many."""
        return 2 * prod(self.y) * prod(self.weight[1:])


@dataclass(frozen=True)
class Work:
    """Of one step.

    Attributes:
        conv_flops: of convolutions, both passes.
        other_flops: of other matrix products: resizing, heads, similarities.
        saved_bytes: kept by the forward pass for the backward pass.
        weight_bytes: weights, gradients and optimiser state.
        layers: each convolution, and how often it is gone through.
    """

    conv_flops: int
    other_flops: int
    saved_bytes: int
    weight_bytes: int
    layers: Counter[Layer]

    @property
    def flops(self) -> int:
        """Of all matrix products."""
        return self.conv_flops + self.other_flops

    @property
    def moved_bytes(self) -> int:
        """At least; see the module."""
        return 2 * (self.saved_bytes + self.weight_bytes)


class _Convolutions(TorchDispatchMode):
    """Counts them, by their backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: Counter[Layer] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func is _ATEN.convolution_backward.default:
            dy, x, weight, _, *settings, mask = args
            shapes = (tuple(tensor.shape) for tensor in (x, weight, dy))
            fixed = tuple(tuple(s) if isinstance(s, list) else s for s in settings)
            self.layers[Layer(*shapes, x.dtype, fixed, mask[0])] += 1
        return func(*args, **(kwargs or {}))


def work_of(step: Callable[[], None], task: nn.Module, optimizer: torch.optim.Optimizer) -> Work:
    """Takes one step and counts."""
    weights = {p.untyped_storage().data_ptr() for p in task.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        # By address: what two operations keep is kept once, and stays until the backward pass.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter, convolutions = FlopCounterMode(display=False), _Convolutions()
    with counter, convolutions, saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    flops = counter.get_flop_counts()["Global"]
    conv_flops = sum(flops.get(operation, 0) for operation in _CONVOLUTIONS)
    trained = [p for p in task.parameters() if p.requires_grad]
    state = [s for p in trained for s in optimizer.state[p].values() if torch.is_tensor(s)]
    return Work(
        conv_flops=conv_flops,
        other_flops=counter.get_total_flops() - conv_flops,
        saved_bytes=sum(kept.values()),
        weight_bytes=sum(tensor.nbytes for tensor in [*trained, *trained, *state]),
        layers=convolutions.layers,
    )
