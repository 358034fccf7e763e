"""Linear probe: multinomial logistic regression on frozen features, solved to convergence.

The published protocols train the probe by SGD or Adam with hand-set rates for 30 to 500 epochs;
the problem is convex, so we solve it with L-BFGS and choose only the L2 value, on training
images held out for that. Which training set is handed in, the balanced one or the long-tailed one,
decides what the number means: the first asks what the features hold, the second what one gets with
the labels at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.core.standardise import moments, standardised
from ssl_lt.data.splits.hold_out import held_out_rows
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.scores.accuracy import accuracy
from ssl_lt.evaluate.scores.softmax import answers_by_parts
from ssl_lt.losses.logit_adjustment import class_log_prior

_HELD_OUT, _SEED = 0.2, 0  # share of each class's training images that choose, and their draw
_PATIENCE = 2  # the search stops after so many L2 values in a row without improvement
_MEAN_CURVATURE = 3.0  # of 0.1 ... 30, needed the fewest iterations on CIFAR-100's features
# An iteration costs images times classes. Of more classes than these, some choose L2 for all, and
# the fit stops early, when it is a few hundredths of its accuracy short.
MOST_CLASSES, FEW_ITERATIONS = 1000, 20
_LARGEST = 1 << 23  # logits of training images that are held at once, 32 MiB of them
L2_GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Stop:
    """When the solver stops.

    Attributes:
        tolerance: no entry of the gradient of the mean loss exceeds it, in coordinates in which the
            curvature is about one.
        max_iterations: should the tolerance be out of reach.
    """

    tolerance: float
    max_iterations: int = 500


# Held-out accuracies of L2 values a decade apart differ long before the solver is done.
_CONVERGED, _SEARCH, _EARLY = Stop(5e-4), Stop(3e-3), Stop(5e-4, FEW_ITERATIONS)


@dataclass(frozen=True)
class ProbeResult:
    """A probe's answers.

    Attributes:
        predictions: (M,) int64 classes of the test features.
        confidence: (M,) float32 probability of each.
        per_class: (C,) test accuracy of each class, None where it was not tested.
        l2: the chosen L2 value.
        grid: L2 value, from large to small -> mean per-class accuracy of the images that chose;
            empty if there was nothing to choose.
        iterations: L-BFGS iterations of all fits together.
        many: there are so many classes that some of them chose for all, and the fit may stop early.
    """

    predictions: Tensor
    confidence: Tensor
    per_class: tuple[float | None, ...]
    l2: float
    grid: Mapping[float, float]
    iterations: int
    many: bool = False


def linear_probe(
    train: Features,
    test: Features,
    *,
    num_classes: int,
    validation: Features | None = None,
    l2_grid: Sequence[float] = L2_GRID,
    tau: float = 0.0,
) -> ProbeResult:
    """Chooses L2 on held-out training features, refits on all of them, predicts the test.

    Args:
        train: features with labels; the only ones that are fitted to.
        test: features; their labels serve for `per_class` alone.
        validation: to choose on in place of held-out training features.
        num_classes: C.
        l2_grid: candidates for lambda of lambda/2 ||W||^2 beside the mean loss; one is taken as
            it is.
        tau: logit adjustment: so much of the classes' log-prior in the training set is added to
            the logits while they are fitted, and not when they predict.

    Raises:
        DataError: no training rows, an unknown label, a feature that is not finite, or a grid to
            choose from while no class has two images.
    """
    check_features(test, "test", num_classes=num_classes)
    probe = fit_probe(
        train, num_classes=num_classes, validation=validation, l2_grid=l2_grid, tau=tau
    )
    answers, confidence = answers_by_parts(
        probe.logits, test.features, num_classes=len(probe.classes)
    )
    predictions = probe.classes[answers]
    per_class = accuracy(predictions, test.labels, num_classes=num_classes).per_class
    chosen = probe.l2, probe.grid, probe.iterations
    return ProbeResult(
        *(predictions, confidence, per_class, *chosen), many=len(probe.classes) > MOST_CLASSES
    )


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A linear classifier of features as they are.

    Attributes:
        classes: (K,) int64 with training images.
        weight: (K, D).
        bias: (K,).
        l2, grid, iterations: as in `ProbeResult`.
    """

    classes: Tensor
    weight: Tensor
    bias: Tensor
    l2: float
    grid: Mapping[float, float]
    iterations: int

    def logits(self, features: Tensor) -> Tensor:
        """(N, K) of (N, D)."""
        return torch.addmm(self.bias, features, self.weight.T)


def fit_probe(
    train: Features,
    *,
    num_classes: int,
    validation: Features | None = None,
    l2_grid: Sequence[float] = L2_GRID,
    tau: float = 0.0,
) -> FittedProbe:
    """The probe that `linear_probe` predicts with; its arguments and errors are the same."""
    for name, part in (("train", train), ("validation", validation)):
        if part is not None:
            check_features(part, name, num_classes=num_classes)
    # A class without a training image would only pull its bias to minus infinity.
    classes, y = torch.unique(train.labels, return_inverse=True)
    x = train.features
    many = len(classes) > MOST_CLASSES
    grid, iterations, start = dict[float, float](), 0, None
    if len(l2_grid) > 1:
        fitted: Tensor | slice = slice(None)
        if validation is None:
            held = held_out_rows(train.labels, train.index, share=_HELD_OUT, seed=_SEED)
            fitted, judged = ~held, (x[held], y[held])
        else:  # of classes that are trained
            judged = validation.features, torch.searchsorted(classes, validation.labels)
        searched = x[fitted], y[fitted]
        if many:
            searched, judged = _of_some_classes(searched, judged)
        grid, iterations, start = _choose(
            searched, judged, l2_grid, tau=tau, of_classes=len(classes)
        )
    l2 = max(grid, key=grid.__getitem__) if grid else l2_grid[0]
    mean, std = moments(x)
    weights, used = fit_logistic(
        *((x - mean) / std, y),
        l2=l2,
        tau=tau,
        start=None if many else start,
        stop=_EARLY if many else _CONVERGED,
    )
    weight = (weights[:-1] / std[:, None]).T.contiguous()
    bias = weights[-1] - weight @ mean
    return FittedProbe(classes, weight, bias, l2, grid, iterations + used)


def fit_logistic(
    x: Tensor,
    y: Tensor,
    *,
    l2: float,
    tau: float = 0.0,
    start: Tensor | None = None,
    stop: Stop = _CONVERGED,
) -> tuple[Tensor, int]:
    """Minimises mean_i [ logsumexp_c z_ic - z_i,y_i ] + l2/2 ||W||^2 by L-BFGS.

    z = x W + b + tau log pi with class shares pi (Eq. 10 of arXiv:2007.07314). Value and gradient
    are closed-form, one matrix product each. b is not penalised, so tau moves b alone and leaves W.

    Args:
        x: (N, D) standardised; its dtype is the precision of the fit.
        y: (N,) int64 in 0 ... K-1, every class present.
        l2: of the penalty.
        tau: of the adjustment.
        start: (D + 1, K) weights of a neighbouring l2.
        stop: when the solver stops.

    Returns:
        (D + 1, K) weights, the last row b, and the number of iterations.
    """
    num_rows, dim = x.shape
    num_classes = int(y.max()) + 1
    basis = _basis(x, l2=l2, num_classes=num_classes)
    v = x.new_zeros(dim + 1, num_classes) if start is None else torch.linalg.solve(basis, start)
    at_once = max(1, _LARGEST // num_classes)
    parts = list(zip(torch.split(x, at_once), torch.split(y, at_once), strict=True))
    shift = tau * class_log_prior(y.bincount()).to(x)

    def loss_and_gradient() -> Tensor:
        w = basis @ v
        loss = l2 / 2 * w[:-1].double().square().sum()
        grad = torch.zeros_like(w)
        for rows, classes in parts:
            log_p = torch.addmm(w[-1] + shift, rows, w[:-1]).log_softmax(dim=1)
            own = torch.arange(len(rows), device=x.device), classes
            loss -= log_p[own].double().sum() / num_rows
            residual = log_p.exp_()  # softmax - one-hot, in the memory of log p
            residual[own] -= 1
            grad += torch.cat([rows.T @ residual, residual.sum(dim=0, keepdim=True)]) / num_rows
        grad[:-1] += l2 * w[:-1]
        v.grad = basis.T @ grad
        return loss

    solver: Any = torch.optim.LBFGS(
        [v],
        max_iter=stop.max_iterations,
        tolerance_grad=stop.tolerance,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    with torch.no_grad():
        solver.step(loss_and_gradient)
    return basis @ v, int(solver.state[v]["n_iter"])


def _basis(x: Tensor, *, l2: float, num_classes: int) -> Tensor:
    """(D + 1, D + 1) coordinates W = basis V in which the curvature is about the same everywhere.

    The Hessian of a class c is sum_i p_ic (1 - p_ic) x_i x_i^T / N + l2. We take `_MEAN_CURVATURE`
    / K for p (1 - p), which is about 1 / K at W = 0 and more for the rows that W has learned to
    tell. Correlated features make it so uneven that L-BFGS takes many times the iterations.
    """
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    curvature = _MEAN_CURVATURE * values.clamp(min=0) / num_classes + l2
    floor = 1e-6 * curvature.max().clamp(min=torch.finfo(x.dtype).tiny)
    scaled = vectors * curvature.clamp(min=floor).rsqrt()
    basis = x.new_zeros(len(values) + 1, len(values) + 1)
    basis[:-1, :-1], basis[-1, -1] = scaled, num_classes**0.5
    return basis


def logits(x: Tensor, weights: Tensor) -> Tensor:
    """(N, K) from (N, D) features and (D + 1, K) weights."""
    return torch.addmm(weights[-1], x, weights[:-1])


def _choose(
    fitted: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    l2_grid: Sequence[float],
    *,
    tau: float,
    of_classes: int,
) -> tuple[dict[float, float], int, Tensor]:
    """Held-out accuracies, iterations and the weights of the best L2 value.

    Where some of all `of_classes` are fitted, a class has a larger share of the mean loss, and L2
    is as much larger.

    Both sets are features and classes. Each fit starts at the solution of the one before, and two
    in a row that are no better than the best end the search: small values take most of the
    iterations.
    """
    (x, y), (held_x, held_y) = fitted, held
    if len(held_y) == 0:
        raise DataError(
            "linear probe: no class has two training images, so none can be held out to choose L2"
        )
    num_classes = int(y.max()) + 1
    scale = of_classes / num_classes
    x, held_x = standardised(x, held_x)
    weights: Tensor | None = None
    grid, best_weights, iterations, since = dict[float, float](), x, 0, 0
    for l2 in sorted(l2_grid, reverse=True):
        weights, used = fit_logistic(x, y, l2=scale * l2, tau=tau, start=weights, stop=_SEARCH)
        predicted = logits(held_x, weights).argmax(dim=1)
        score = accuracy(predicted, held_y, num_classes=num_classes).balanced
        iterations, since = iterations + used, since + 1
        if score > max(grid.values(), default=-1.0):
            best_weights, since = weights, 0
        grid[l2] = score
        if since == _PATIENCE:
            break
    return grid, iterations, best_weights


def _of_some_classes(
    fitted: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Both sets cut down to `MOST_CLASSES`, drawn by seed from those that were held out."""
    random = torch.Generator().manual_seed(_SEED)
    known = torch.unique(held[1])
    chosen = known[torch.randperm(len(known), generator=random)[:MOST_CLASSES]]
    kept = [torch.isin(y, chosen) for _, y in (fitted, held)]
    parts = [(x[k], y[k]) for k, (x, y) in zip(kept, (fitted, held), strict=True)]
    classes = torch.unique(parts[0][1])
    (x, y), (held_x, held_y) = parts
    return (x, torch.searchsorted(classes, y)), (held_x, torch.searchsorted(classes, held_y))


def check_features(part: Features, name: str, *, num_classes: int) -> None:
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
