"""Linear probe: multinomial logistic regression on frozen features, solved to convergence.

The published protocols train the probe by SGD or Adam with hand-set rates for 30 to 500 epochs;
the problem is convex, so we solve it with L-BFGS and choose only the L2 value, on training
images held out for that, and of a small set on five draws of them. Which training set is handed in,
the balanced one or the long-tailed one, decides what the number means: the first asks what the
features hold, the second what one gets with the labels at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.core.standardise import moments, standardised
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.probes.logistic import CONVERGED, Stop, fit_logistic, logits
from ssl_lt.evaluate.scores.accuracy import accuracy
from ssl_lt.evaluate.scores.softmax import answers_by_parts

_HELD_OUT, _SEED = 0.2, 0  # share of each class's training images that choose, and their draw
# Of at most so many images, so many draws choose together.
_SMALL, _DRAWS = 5_000, 5
_PATIENCE = 2  # the search stops after so many L2 values in a row without improvement
# An iteration costs images times classes. Of more classes than these, some choose L2 for all, and
# the fit stops early, when it is a few hundredths of its accuracy short.
MOST_CLASSES, FEW_ITERATIONS = 1000, 20
L2_GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# Held-out accuracies of L2 values a decade apart differ long before the solver is done.
_SEARCH, _EARLY = Stop(3e-3), Stop(CONVERGED.tolerance, FEW_ITERATIONS)

# Features and classes that are fitted, and those that are held out.
Draw = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


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
    for name, part in (("train", train), ("test", test)):
        check_features(part, name, num_classes=num_classes)
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
        if validation is None:
            draws = _held_out(train, y)
        else:  # of classes that are trained
            judged = validation.features, torch.searchsorted(classes, validation.labels)
            draws = [((x, y), judged)]
        if many:
            draws = [_of_some_classes(*draw) for draw in draws]
        grid, iterations, start = _choose(draws, l2_grid, tau=tau, of_classes=len(classes))
    l2 = max(grid, key=grid.__getitem__) if grid else l2_grid[0]
    mean, std = moments(x)
    weights, used = fit_logistic(
        *((x - mean) / std, y),
        l2=l2,
        tau=tau,
        start=None if many else start,
        stop=_EARLY if many else CONVERGED,
    )
    weight = (weights[:-1] / std[:, None]).T.contiguous()
    bias = weights[-1] - weight @ mean
    return FittedProbe(classes, weight, bias, l2, grid, iterations + used)


def _held_out(train: Features, y: Tensor) -> list[Draw]:
    """What is fitted and what is held out; of a small set several draws, which choose together.

    A class of ten images holds out two, and the choice would hang on which two.
    """
    draws = []
    for seed in range(_DRAWS if len(train) <= _SMALL else 1):
        held = train.held_out(share=_HELD_OUT, seed=_SEED + seed)
        draws.append(((train.features[~held], y[~held]), (train.features[held], y[held])))
    return draws


def _choose(
    draws: Sequence[Draw], l2_grid: Sequence[float], *, tau: float, of_classes: int
) -> tuple[dict[float, float], int, Tensor]:
    """Held-out accuracies, iterations and the first draw's weights of the best L2 value.

    Where some of all `of_classes` are fitted, a class has a larger share of the mean loss, and L2
    is as much larger.

    Each fit starts at the solution of the one before, and two L2 values in a row that are no better
    than the best end the search: small values take most of the iterations.
    """
    if len(draws[0][1][1]) == 0:
        raise DataError(
            "linear probe: no class has two training images, so none can be held out to choose L2"
        )
    num_classes = max(int(y.max()) for (_, y), _ in draws) + 1
    scale = of_classes / num_classes
    prepared: list[Draw] = []
    for (x, y), (held_x, held_y) in draws:
        x, held_x = standardised(x, held_x)
        prepared.append(((x, y), (held_x, held_y)))
    weights: list[Tensor | None] = [None] * len(prepared)
    grid, best, iterations, since = dict[float, float](), prepared[0][0][0], 0, 0
    for l2 in sorted(l2_grid, reverse=True):
        scores = []
        for place, ((x, y), (held_x, held_y)) in enumerate(prepared):
            fitted, used = fit_logistic(
                x, y, l2=scale * l2, tau=tau, start=weights[place], stop=_SEARCH
            )
            predicted = logits(held_x, fitted).argmax(dim=1)
            scores.append(accuracy(predicted, held_y, num_classes=num_classes).balanced)
            weights[place], iterations = fitted, iterations + used
        score, since = sum(scores) / len(scores), since + 1
        if score > max(grid.values(), default=-1.0):
            assert weights[0] is not None
            best, since = weights[0], 0
        grid[l2] = score
        if since == _PATIENCE:
            break
    return grid, iterations, best


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
