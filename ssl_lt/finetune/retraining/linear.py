"""A linear layer, or what stands in its place, fitted to cached rows by SGD."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError, NumericError
from ssl_lt.core.sgd import cosine_rates, take_steps
from ssl_lt.finetune.retraining.sampling import balanced_rows
from ssl_lt.losses.cross_entropy import cross_entropy

# (labels, *, seed, epoch) -> the rows of an epoch.
Sampling = Callable[..., Tensor]
_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4  # of arXiv:1910.09217's code


@dataclass(frozen=True)
class SGDOptions:
    """How a classifier is fitted to cached features.

    Epochs, rate, momentum 0.9 and weight decay 5e-4 are those of arXiv:1910.09217's code for the
    re-trained classifier; its batches of 512 leave small data sets too few steps.
    """

    epochs: int = 10
    """Of the classifiers that are fitted; an epoch has as many images of each class as the
    largest class."""
    lr: float = 0.2
    """Of the first step; a cosine takes it to 0. Features count in units of their root mean
    square."""
    fit_batch_size: int = 128
    """Cached rows a step."""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"--epochs: {self.epochs}, must be at least 1")
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"--lr: {self.lr}, must be above 0 and finite")
        if self.fit_batch_size < 1:
            raise ConfigError(f"--fit-batch-size: {self.fit_batch_size}, must be at least 1")


def fit_layer(
    layer: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    options: SGDOptions,
    sampling: Sampling,
    seed: int,
) -> None:
    """Minimises the mean cross-entropy of `layer(inputs)` by SGD under a cosine; in place.

    Args:
        layer: (B, D) -> (B, C).
        inputs: (N, D) on the layer's device.
        labels: (N,) int64.
        options: epochs, rate, batch.
        sampling: the rows of an epoch.
        seed: of their order.

    Raises:
        NumericError: the rate was too high.
    """
    optimizer = torch.optim.SGD(
        layer.parameters(), lr=options.lr, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY
    )
    size, epochs = options.fit_batch_size, range(options.epochs)
    steps = len(epochs) * math.ceil(len(sampling(labels, seed=seed, epoch=0)) / size)
    orders = (sampling(labels, seed=seed, epoch=epoch) for epoch in epochs)
    batches = chain.from_iterable(torch.split(order, size) for order in orders)

    def loss(rows: Tensor) -> Tensor:
        return cross_entropy(layer(inputs[rows]), labels[rows]).mean()

    take_steps(optimizer, loss, zip(cosine_rates(options.lr, steps), batches, strict=True))
    if not all(bool(p.isfinite().all()) for p in layer.parameters()):
        raise NumericError(f"--lr: the classifier diverged at {options.lr:g}; try a smaller rate")


def fit_linear(
    features: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    options: SGDOptions,
    sampling: Sampling = balanced_rows,
    seed: int,
) -> nn.Linear:
    """A new linear classifier of cached features.

    With `balanced_rows` it is the re-trained classifier, cRT, of arXiv:1910.09217: "re-initialise
    and re-train with class-balanced sampling, the features fixed". There the new layer starts at
    random and the images are augmented anew; here it starts at 0 (the problem is convex, and 0
    favours no class) and each image has the one feature that was cached. Features are divided by
    their root mean square while it is fitted, so that the rate does not depend on their unit.

    Args:
        features: (N, D).
        labels: (N,) int64.
        num_classes: C.
        options: epochs, rate, batch.
        sampling: the rows of an epoch.
        seed: of their order.

    Raises:
        NumericError: the rate was too high.
    """
    unit = features.square().mean().sqrt()
    unit = torch.where(unit > 0, unit, 1.0)
    layer = nn.Linear(features.shape[1], num_classes, device=features.device, dtype=features.dtype)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    fit_layer(layer, features / unit, labels, options=options, sampling=sampling, seed=seed)
    layer.weight.data /= unit
    return layer.requires_grad_(requires_grad=False)
