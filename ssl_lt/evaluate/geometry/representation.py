"""Measures of a representation on the unit sphere, before any classifier is put on it.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import ByGroup, Groups
from ssl_lt.evaluate.geometry.centres import centre_distances

# Below these a representation is called collapsed; see `collapse_warnings`.
SMALLEST_STD = 0.1
SMALLEST_RANK_SHARE = 0.1
_PAIRED_ROWS = 2048  # whose 2 million pairs tell the uniformity well enough

Rows = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """Of some classes; None where there are too few images or classes to say.

    Attributes:
        alignment: mean squared distance of two views of a training image, 0 ... 4; lower is closer.
        uniformity: log of the mean Gaussian potential of two test images; lower is more uniform.
        effective_rank: exponential of the entropy of the singular values, 1 ... D.
        feature_std: mean standard deviation of a coordinate times sqrt(D): 1 where the features
            spread over the whole sphere around 0, 0 where they are all the same.
        within_class_spread: mean squared distance of two test images of the same class, 0 ... 4.
        between_class_uniformity: mean distance of a class centre to all others; higher is better.
        neighbourhood_uniformity: the same to the nearest `NUM_NEIGHBOURS` others.
    """

    alignment: float | None
    uniformity: float | None
    effective_rank: float
    feature_std: float
    within_class_spread: float | None
    between_class_uniformity: float | None
    neighbourhood_uniformity: float | None


@dataclass(frozen=True)
class Representation:
    """What a frozen backbone makes of the data set.

    Attributes:
        name: "backbone", or "random init: backbone".
        dim: D, width of the features.
        all: over all classes.
        groups: None where a group has no class; one entry a rule.
        warnings: a sentence for each sign of collapse.
    """

    name: str
    dim: int
    all: Measures
    groups: tuple[ByGroup[Measures | None], ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ViewPair:
    """Features of two augmented views of the same training images.

    Attributes:
        first, second: (M, D), row by row of the same image.
        labels: (M,) classes of the images.
    """

    first: Rows
    second: Rows
    labels: NDArray[np.int64]


def unit_rows(x: Rows) -> NDArray[np.float64]:
    """(N, D) rows of norm 1.

    Raises:
        DataError: a row is zero or not finite.
    """
    rows = x.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0))[:, 0]
    if bad.any():
        raise DataError(
            f"representation: {int(bad.sum())} feature rows are zero or not finite, the first is "
            f"row {int(bad.argmax())}"
        )
    unit: NDArray[np.float64] = rows / norms
    return unit


def alignment(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """A = mean_i ||x_i - y_i||^2 (arXiv:2005.10242, eq. 1 with alpha = 2).

    Args:
        x: (M, D) of norm 1.
        y: (M, D) of norm 1: other views of the same images.
    """
    return float(np.square(x - y).sum(axis=1).mean())


def uniformity(x: NDArray[np.float64]) -> float:
    """U = log mean_{i<j} exp(-2 ||x_i - x_j||^2) (arXiv:2005.10242, eq. 2 with t = 2).

    Args:
        x: (N, D) of norm 1, N >= 2; all pairs are held in memory.
    """
    num_rows = x.shape[0]
    potential = np.exp(4 * (np.clip(x @ x.T, -1, 1) - 1))  # ||x - y||^2 = 2 - 2 <x, y>
    pairs = num_rows * (num_rows - 1)
    return float(np.log((potential.sum() - np.trace(potential)) / pairs))


def effective_rank(x: NDArray[np.float64]) -> float:
    """R = exp(-sum_k p_k log p_k), p = singular values / their sum (Roy & Vetterli 2007).

    Not centred, as in arXiv:2210.02885, whose rows are not normalised: here they are, so that a few
    long ones do not decide. Equal rows have rank 1.

    Args:
        x: (N, D) of norm 1.
    """
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    sigma = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    p = sigma / sigma.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def feature_std(x: NDArray[np.float64]) -> float:
    """V = sqrt(D) * mean_d std_i(x_id); about 1 on a whole sphere (arXiv:2011.10566, section 4.1).

    Args:
        x: (N, D) of norm 1.
    """
    return float(x.std(axis=0).mean() * np.sqrt(x.shape[1]))


def within_class_spread(
    means: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """S = mean_{i != j} ||x_i - x_j||^2 = 2 n / (n - 1) * (1 - ||mean x||^2) of each class.

    Args:
        means: (C, D) of rows of norm 1; not of norm 1 themselves.
        counts: (C,) rows behind each, n >= 2.

    Returns:
        (C,) spreads.
    """
    squared: NDArray[np.float64] = 2 * counts / (counts - 1) * (1 - np.square(means).sum(axis=1))
    return squared


def measure_representation(
    name: str,
    features: Rows,
    labels: NDArray[np.int64],
    *,
    views: ViewPair | None = None,
    groups: Sequence[Groups] = (),
    seed: int = 0,
) -> Representation:
    """All measures over all classes and over each group.

    Distances of class centres go from the classes of a group to those of all groups.

    Args:
        name: of the backbone.
        features: (N, D) of the test split, any norm.
        labels: (N,) classes of the test images.
        views: of training images, for the alignment.
        groups: rules that split the classes by their training counts.
        seed: of the images whose pairs tell the uniformity, where there are many.

    Raises:
        DataError: no image, or a feature row that is zero or not finite.
    """
    if not len(labels) or features.shape[0] != len(labels):
        raise DataError(f"representation: {features.shape} features of {len(labels)} images")
    x = unit_rows(features)
    pair = None if views is None else (unit_rows(views.first), unit_rows(views.second))
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    sums = np.add.reduceat(x[order], np.cumsum(counts) - counts)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    away, near = centre_distances(sums / np.maximum(lengths, np.finfo(np.float64).tiny))
    several = counts > 1
    spread = np.full(classes.size, np.nan)
    spread[several] = within_class_spread(sums[several] / counts[several, None], counts[several])
    random = np.random.default_rng(seed)

    def measures(members: Sequence[int]) -> Measures | None:
        chosen = np.isin(classes, members)
        if not chosen.any():
            return None
        rows = x[chosen[place]]
        aligned = None
        if views is not None and pair is not None:
            seen = np.isin(views.labels, members)
            aligned = alignment(pair[0][seen], pair[1][seen]) if seen.any() else None
        sample = rows
        if len(rows) > _PAIRED_ROWS:
            sample = rows[random.choice(len(rows), _PAIRED_ROWS, replace=False)]
        return Measures(
            alignment=aligned,
            uniformity=uniformity(sample) if len(sample) > 1 else None,
            effective_rank=effective_rank(rows),
            feature_std=feature_std(rows),
            within_class_spread=_mean(spread[chosen & several]),
            between_class_uniformity=_mean(away[chosen & np.isfinite(away)]),
            neighbourhood_uniformity=_mean(near[chosen & np.isfinite(near)]),
        )

    everything = measures(classes.tolist())
    assert everything is not None
    warnings = collapse_warnings(
        feature_std=everything.feature_std,
        effective_rank=everything.effective_rank,
        dim=x.shape[1],
        num_classes=classes.size,
    )
    return Representation(
        name=name,
        dim=x.shape[1],
        all=everything,
        groups=tuple(g.map(measures) for g in groups),
        warnings=warnings,
    )


def collapse_warnings(
    *, feature_std: float, effective_rank: float, dim: int, num_classes: int
) -> tuple[str, ...]:
    """A sentence for each bound that the features fall below.

    The standard deviation falls when all images look alike. The effective rank falls when only a
    few directions are used: fewer than a tenth of what there is room for and the classes need,
    min(num_classes, dim), or fewer than two.
    """
    found = []
    if feature_std < SMALLEST_STD:
        found.append(
            "Sign of collapse: the features of all images point nearly the same way; their std is "
            f"{feature_std:.3f} of that of a whole sphere, below {SMALLEST_STD:g}."
        )
    bound = max(2.0, SMALLEST_RANK_SHARE * min(num_classes, dim))
    if effective_rank < bound:
        found.append(
            "Sign of collapse: the features use few directions; their effective rank is "
            f"{effective_rank:.1f} of {dim}, below {bound:g}."
        )
    return tuple(found)


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None
