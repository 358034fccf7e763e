"""How fast this machine multiplies matrices, copies memory and convolves: CPUs only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from step_work import Layer

_ATEN = torch.ops.aten
_TO_INPUT, _TO_WEIGHT = [True, False, False], [False, True, False]


@dataclass(frozen=True)
class Rates:
    """FLOPs a second of matrix products, bytes a second of a copy (read and written both count)."""

    bf16: float
    fp32: float
    memory: float


@dataclass(frozen=True)
class Alone:
    """Milliseconds of the three products of a convolution that is called by itself."""

    forward: float
    to_input: float
    to_weight: float

    @property
    def total(self) -> float:
        """Both passes."""
        return self.forward + self.to_input + self.to_weight


def seconds_of(function: Callable[[], object], *, at_least: float) -> float:
    """Median of as many calls as take `at_least` seconds together, after one that warms up."""
    function()
    found: list[float] = []
    while not found or sum(found) < at_least:
        started_at = time.perf_counter()
        function()
        found.append(time.perf_counter() - started_at)
    return median(found)


def measure_rates(
    *, sizes: tuple[int, ...] = (1024, 2048), mebibytes: int = 256, at_least: float = 0.5
) -> Rates:
    """The best of square matrix products, and of a copy that no cache can hold."""

    def product(size: int, dtype: torch.dtype) -> float:
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        return 2 * size**3 / seconds_of(lambda: a @ b, at_least=at_least)

    source = torch.ones(mebibytes << 20, dtype=torch.uint8)
    target = torch.empty_like(source)
    return Rates(
        bf16=max(product(size, torch.bfloat16) for size in sizes),
        fp32=max(product(size, torch.float32) for size in sizes),
        memory=2 * source.nbytes / seconds_of(lambda: target.copy_(source), at_least=at_least),
    )


def alone(layer: Layer, *, at_least: float) -> Alone:
    """A convolution channels-last, without network or autograd around it."""
    x, weight = (
        torch.randn(shape).to(layer.dtype, memory_format=torch.channels_last)
        for shape in (layer.x, layer.weight)
    )
    ahead = partial(_ATEN.convolution, x, weight, None, *layer.settings)
    back = partial(_ATEN.convolution_backward, ahead(), x, weight, None, *layer.settings)
    found = [
        1e3 * seconds_of(function, at_least=at_least) if needed else 0.0
        for function, needed in (
            (ahead, True),
            (partial(back, _TO_INPUT), layer.needs_input_gradient),
            (partial(back, _TO_WEIGHT), True),
        )
    ]
    return Alone(*found)


def summed(layers: Counter[Layer], times: dict[Layer, Alone]) -> Alone:
    """All convolutions of a step."""
    counted = [(count, times[layer]) for layer, count in layers.items()]
    return Alone(
        forward=sum(count * time.forward for count, time in counted),
        to_input=sum(count * time.to_input for count, time in counted),
        to_weight=sum(count * time.to_weight for count, time in counted),
    )
