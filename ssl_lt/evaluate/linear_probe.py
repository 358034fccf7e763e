"""Linear probe: multinomial logistic regression on frozen features, solved to convergence.

The published protocols train the probe by SGD or Adam with hand-set rates for 30 to 500 epochs;
the problem is convex, so we solve it with L-BFGS and choose only the L2 strength, on training
images held out for that. Which training set is handed in, the balanced one or the long-tailed one,
decides what the number means: the first asks what the features hold, the second what one gets with
the labels at hand.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.core.random import sample_keys
from ssl_lt.evaluate.accuracy import accuracy
from ssl_lt.evaluate.features import Features


@dataclass(frozen=True)
class LinearProbeOptions:
    """How the probe is fitted.

    Attributes:
        l2_grid: candidate strengths lambda of lambda/2 ||W||^2 beside the mean loss.
        held_out: share of each class's training images that choose among them.
        seed: of the choice of held-out images.
        tolerance: the solver stops when no entry of the gradient of the mean loss exceeds it.
        max_iterations: L-BFGS iterations a fit, should the tolerance be out of reach.
    """

    l2_grid: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out: float = 0.2
    seed: int = 0
    tolerance: float = 1e-5
    max_iterations: int = 500

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: an empty or negative grid, or nothing (or everything) held out.
        """
        if not self.l2_grid or min(self.l2_grid) < 0:
            raise ConfigError(f"--probe-l2-grid: {self.l2_grid}, but strengths >= 0 are needed")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"--probe-held-out: {self.held_out} is not between 0 and 1")


@dataclass(frozen=True)
class GridPoint:
    """One L2 strength and the mean per-class accuracy it had on the held-out images."""

    l2: float
    held_out_accuracy: float


@dataclass(frozen=True)
class ProbeResult:
    """A probe's answers.

    Attributes:
        predictions: (M,) int64 classes of the test features.
        per_class: (C,) test accuracy of each class, None where it was not tested.
        l2: the chosen strength.
        grid: every strength tried, from strong to weak; empty if there was nothing to choose.
        iterations: L-BFGS iterations of all fits together.
        seconds: of choosing, fitting and predicting.
    """

    predictions: Tensor
    per_class: tuple[float | None, ...]
    l2: float
    grid: tuple[GridPoint, ...]
    iterations: int
    seconds: float


def linear_probe(
    train: Features,
    test: Features,
    *,
    num_classes: int,
    options: LinearProbeOptions | None = None,
    device: torch.device | None = None,
) -> ProbeResult:
    """Chooses the L2 strength on held-out training features, refits on all, predicts the test.

    Args:
        train: features with labels; the only ones that are fitted to or chosen on.
        test: features; their labels serve for `per_class` alone.
        num_classes: C.
        options: defaults if None.
        device: where the fits run; the features' own if None.

    Raises:
        DataError: no training rows, an unknown label, a feature that is not finite, or a grid to
            choose from while no class has two images.
    """
    options = options or LinearProbeOptions()
    started = time.perf_counter()
    for name, part in (("train", train), ("test", test)):
        _check(part, name, num_classes=num_classes)
    x, labels = train.features.to(device), train.labels.to(device)
    # A class without a training image would only pull its bias to minus infinity.
    classes, y = torch.unique(labels, return_inverse=True)
    strengths = sorted(options.l2_grid, reverse=True)
    grid: tuple[GridPoint, ...] = ()
    iterations = 0
    if len(strengths) > 1:
        held = held_out_rows(train.labels, train.index, options=options).to(x.device)
        grid, iterations = _choose(x, y, held, strengths, options=options)
    best = max(grid, key=lambda point: point.held_out_accuracy, default=GridPoint(strengths[0], 0))
    scale = _Standard(x)
    weights, used = fit_logistic(scale(x), y, l2=best.l2, options=options)
    predictions = classes[logits(scale(test.features.to(device)), weights).argmax(dim=1)].cpu()
    found = accuracy(predictions, test.labels, num_classes=num_classes)
    seconds = time.perf_counter() - started
    return ProbeResult(predictions, found.per_class, best.l2, grid, iterations + used, seconds)


def fit_logistic(
    x: Tensor,
    y: Tensor,
    *,
    l2: float,
    options: LinearProbeOptions,
    start: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Minimises mean_i [ logsumexp_c z_ic - z_i,y_i ] + l2/2 ||W||^2, z = x W + b, by L-BFGS.

    Value and gradient are closed-form, one matrix product each; b is not penalised.

    Args:
        x: (N, D) standardised; its dtype is the precision of the fit.
        y: (N,) int64 in 0 ... K-1, every class present.
        l2: strength.
        options: tolerance and iterations.
        start: (D + 1, K) weights of a neighbouring strength.

    Returns:
        (D + 1, K) weights, the last row b, and the number of iterations.
    """
    num_rows, dim = x.shape
    num_classes = int(y.max()) + 1
    w = x.new_zeros(dim + 1, num_classes) if start is None else start.clone()
    rows = torch.arange(num_rows, device=x.device)

    def loss_and_gradient() -> Tensor:
        z = logits(x, w)
        lse = z.logsumexp(dim=1, keepdim=True)
        loss = (lse[:, 0] - z[rows, y]).double().mean() + l2 / 2 * w[:-1].double().square().sum()
        residual = z.sub_(lse).exp_()  # softmax - one-hot, in the memory of z
        residual[rows, y] -= 1
        residual /= num_rows
        w.grad = torch.cat([x.T @ residual + l2 * w[:-1], residual.sum(dim=0, keepdim=True)])
        return loss

    solver: Any = torch.optim.LBFGS(
        [w],
        max_iter=options.max_iterations,
        tolerance_grad=options.tolerance,
        tolerance_change=1e-12,
        history_size=10,
        line_search_fn="strong_wolfe",
    )
    with torch.no_grad():
        solver.step(loss_and_gradient)
    return w.detach(), int(solver.state[w]["n_iter"])


def logits(x: Tensor, weights: Tensor) -> Tensor:
    """(N, K) from (N, D) features and (D + 1, K) weights."""
    return torch.addmm(weights[-1], x, weights[:-1])


def held_out_rows(labels: Tensor, index: Tensor, *, options: LinearProbeOptions) -> Tensor:
    """(N,) bool: the training rows that choose the L2 strength.

    In each class of n >= 2 images, max(1, floor(held_out * n)) of them, so that at least one is
    left to fit; a class of one image is fitted only. A function of the seed, the labels and the
    images' index: the order of the rows does not matter.
    """
    keys = sample_keys(index, seed=options.seed, epoch=0, view=0)
    order = torch.argsort(keys, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    counts = labels.bincount()
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    quota = (counts * options.held_out).floor().long().clamp(min=1)
    quota = torch.minimum(quota, counts - 1)
    held = torch.empty(len(labels), dtype=torch.bool)
    held[order] = place < quota[labels[order]]
    return held


def _choose(
    x: Tensor, y: Tensor, held: Tensor, strengths: list[float], *, options: LinearProbeOptions
) -> tuple[tuple[GridPoint, ...], int]:
    """Held-out accuracy of every strength; each fit starts at the solution of the one before."""
    if not held.any():
        raise DataError(
            "linear probe: no class has two training images, so none can choose the L2 strength; "
            "give --probe-l2-grid one value"
        )
    num_classes = int(y.max()) + 1
    scale = _Standard(x[~held])
    fit_x, held_x = scale(x[~held]), scale(x[held])
    weights: Tensor | None = None
    points, iterations = [], 0
    for l2 in strengths:
        weights, used = fit_logistic(fit_x, y[~held], l2=l2, options=options, start=weights)
        predicted = logits(held_x, weights).argmax(dim=1)
        score = accuracy(predicted.cpu(), y[held].cpu(), num_classes=num_classes).balanced
        points.append(GridPoint(l2, score))
        iterations += used
    return tuple(points), iterations


class _Standard:
    """Zero mean and unit variance a feature, as the fitted rows have it; constants become 0."""

    def __init__(self, x: Tensor) -> None:
        std, self.mean = torch.std_mean(x, dim=0, correction=0)
        # What is left of a constant after rounding must not be blown up to unit variance.
        noise = 10 * torch.finfo(x.dtype).eps * self.mean.abs()
        self.std = torch.where(std > noise, std, torch.inf)

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def _check(part: Features, name: str, *, num_classes: int) -> None:
    """Raises DataError for what cannot be fitted or judged."""
    if len(part) == 0:
        raise DataError(f"linear probe: no {name} features")
    if not np.isfinite(part.features.numpy()).all():
        raise DataError(f"linear probe: a {name} feature is not finite")
    if int(part.labels.min()) < 0 or int(part.labels.max()) >= num_classes:
        raise DataError(
            f"linear probe: {name} labels {int(part.labels.min())} ... {int(part.labels.max())} "
            f"do not fit {num_classes} classes"
        )
