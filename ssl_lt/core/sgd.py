"""Training a small layer on cached features: no data loader, no engine, one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


def cosine_rates(peak: float, steps: int) -> Iterator[float]:
    """`peak (1 + cos(pi t / steps)) / 2` for the steps t = 0 ... steps - 1."""
    for step in range(steps):
        yield peak * (1 + math.cos(math.pi * step / steps)) / 2


def take_steps(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[float, Tensor]],
) -> int:
    """One step of the optimiser a batch.

    Args:
        optimizer: of the layer's parameters.
        loss: (B,) int64 positions of cached features -> scalar with gradient.
        batches: learning rate and positions of each step.

    Returns:
        Number of steps.
    """
    steps = 0
    for rate, positions in batches:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        torch.autograd.backward(loss(positions))
        optimizer.step()
        steps += 1
    return steps
