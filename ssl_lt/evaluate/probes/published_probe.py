"""Linear probes as two papers trained them, on cached features, to compare with their tables.

"sdclr": SGD at learning rate 30 with the best epoch on held-out images (SDCLR, ICML 2021). "bcl":
Adam for 500 epochs, the last one (BCL, ICML 2022; GH, NeurIPS 2023, too). Both fit the features as
they are, without standardising. SDCLR's code crops and flips its training images anew each epoch
and holds 5,000 other images out; here the features are of the images as they are and a tenth of
the training images given is held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.sgd import take_steps
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.probes.linear_probe import ProbeResult, check_features
from ssl_lt.evaluate.scores.accuracy import accuracy
from ssl_lt.evaluate.scores.softmax import answers_by_parts

_FEW_SHOTS = 100  # images of a class up to which SDCLR's few-shot settings apply


@dataclass(frozen=True)
class Protocol:
    """A way to train a probe.

    Attributes:
        layer: (D, C) -> the layer with its initial weights.
        optimizer: parameters -> the optimiser.
        rate: epoch from 0 -> learning rate.
        epochs: passes over the training images.
        batch_size: images a step.
        held_out: share of each class that chooses the epoch; 0: the last epoch.
        look_every: the held-out accuracy is measured every so many epochs.
    """

    layer: Callable[[int, int], nn.Linear]
    optimizer: Callable[..., torch.optim.Optimizer]
    rate: Callable[[int], float]
    epochs: int
    batch_size: int
    held_out: float = 0.0
    look_every: int = 1


def stepped_rate(epoch: int, *, milestones: tuple[int, int]) -> float:
    """30, a tenth of it from each milestone on, with epochs counted from 1."""
    return 30.0 * 0.1 ** sum(epoch + 1 >= milestone for milestone in milestones)


def exponential_rate(epoch: int) -> float:
    """From 1e-2 towards 1e-6 within 500 epochs, by the same factor each."""
    return 1e-2 * float((1e-6 / 1e-2) ** (epoch / 500))


def _small_layer(dim: int, num_classes: int) -> nn.Linear:
    """Weights of standard deviation 0.01, no bias to start with."""
    layer = nn.Linear(dim, num_classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


_SGD = partial(torch.optim.SGD, lr=30.0, momentum=0.9, weight_decay=0.0)
SDCLR = Protocol(
    _small_layer,
    _SGD,
    partial(stepped_rate, milestones=(10, 20)),
    epochs=30,
    batch_size=128,
    held_out=0.1,
)
SDCLR_FEW_SHOT = replace(
    SDCLR, rate=partial(stepped_rate, milestones=(40, 60)), epochs=100, look_every=5
)
BCL = Protocol(
    nn.Linear,
    partial(torch.optim.Adam, lr=1e-2, weight_decay=5e-6),
    exponential_rate,
    epochs=500,
    batch_size=1000,
)


def protocol(name: str, train: Features) -> Protocol:
    """By its name: "bcl", or "sdclr", which has settings of its own for few shots."""
    if name == "bcl":
        return BCL
    assert name == "sdclr", name
    few = int(train.labels.bincount().max()) <= _FEW_SHOTS
    return SDCLR_FEW_SHOT if few else SDCLR


def published_probe(
    train: Features,
    test: Features,
    protocol: Protocol,
    *,
    num_classes: int,
    seed: int = 0,
) -> ProbeResult:
    """Trains by a protocol and predicts the test features.

    Args:
        train: features with labels.
        test: features; their labels serve for `per_class` alone.
        protocol: `SDCLR`, `BCL` ...
        num_classes: C.
        seed: of initial weights, order and held-out images.

    Returns:
        With `l2` 0, no grid, and steps as `iterations`.

    Raises:
        DataError: no rows, an unknown label, or a feature that is not finite.
    """
    for name, part in (("train", train), ("test", test)):
        check_features(part, name, num_classes=num_classes)
    held = torch.zeros(len(train), dtype=torch.bool)
    if protocol.held_out:
        held = train.held_out(share=protocol.held_out, seed=seed)
    x, y = train.features, train.labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = protocol.layer(x.shape[1], num_classes)
    steps = _train(layer, (x[~held], y[~held]), (x[held], y[held]), protocol, seed=seed)
    with torch.no_grad():
        predictions, confidence = answers_by_parts(layer, test.features, num_classes=num_classes)
    per_class = accuracy(predictions, test.labels, num_classes=num_classes).per_class
    return ProbeResult(predictions, confidence, per_class, 0.0, {}, steps)


def _train(
    layer: nn.Linear,
    fit: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    protocol: Protocol,
    *,
    seed: int,
) -> int:
    """Number of steps; the layer is left at its best held-out accuracy, or at the end."""
    x, y = fit
    generator = torch.Generator().manual_seed(seed)
    optimizer = protocol.optimizer(layer.parameters())
    best, kept, steps = -1.0, layer.state_dict(), 0

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(layer(x[rows]), y[rows])

    for epoch in range(protocol.epochs):
        order = torch.randperm(len(x), generator=generator)
        batches = torch.split(order, protocol.batch_size)
        steps += take_steps(optimizer, loss, zip(repeat(protocol.rate(epoch)), batches))
        last = epoch + 1 == protocol.epochs
        if len(held[1]) and (last or (epoch + 1) % protocol.look_every == 0):
            score = _balanced(layer, *held)
            if score > best:
                best = score
                kept = {key: value.clone() for key, value in layer.state_dict().items()}
    if len(held[1]):
        layer.load_state_dict(kept)
    return steps


@torch.no_grad()
def _balanced(layer: nn.Linear, x: Tensor, y: Tensor) -> float:
    """Mean per-class accuracy."""
    predicted, _ = answers_by_parts(layer, x, num_classes=layer.out_features)
    return accuracy(predicted, y, num_classes=layer.out_features).balanced
