"""An exponential moving average of the weights, which is evaluated in their place (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def decay_at(step: int, *, decay: float) -> float:
    """`min(decay, (1 + t) / (10 + t))` of the average after `t` optimiser steps.

    At first the average follows the weights closely and forgets those that were drawn.
    """
    return min(decay, (1 + step) / (10 + step))


class WeightAverage:
    """`a <- d a + (1 - d) w` after each optimiser step, `d` by `decay_at`.

    As in timm's `ModelEmaV3`, running statistics and other buffers of real numbers are averaged
    like the weights, and whole numbers are copied. The decay is a function of the step, so that
    the tensors are all there is to save; every process computes the same ones.

    Args:
        module: what is averaged: its parameters and persistent buffers.
        decay: in (0, 1), after the warm-up.

    Attributes:
        tensors: name in the module's `state_dict` -> average.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.module, self.decay = module, decay
        self.tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after `step` optimiser steps."""
        averages, weights = [], []
        for name, tensor in self.module.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self.tensors[name])
                weights.append(tensor)
            else:
                self.tensors[name].copy_(tensor)
        torch._foreach_lerp_(averages, weights, 1 - decay_at(step, decay=self.decay))

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over saved averages, each in the memory format that it has here."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A block in which the module has the average; then its own weights again, bit for bit."""
        own = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
        put(self.tensors, into=self.module)
        try:
            yield
        finally:
            put(own, into=self.module)


@torch.no_grad()
def put(tensors: Mapping[str, Tensor], *, into: nn.Module) -> None:
    """Copies values into a module whose `state_dict` has these names and shapes."""
    for name, tensor in into.state_dict().items():
        tensor.copy_(tensors[name])
