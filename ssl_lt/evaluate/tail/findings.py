"""How well scores and choices of images find rare classes, where the classes are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.scores.intervals import Interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_TIE_SEED = 0
_RANDOM_SEEDS = 10
_LEVEL = 0.95


def rarest_first(score: Floats) -> Integers:
    """(N,) images by falling score; those without one (NaN) last.

    Equal ones come in an order drawn with a fixed seed: images of a long-tailed subset often stand
    class by class, and their own order would tell the classes apart.
    """
    drawn = np.random.default_rng(_TIE_SEED).permutation(len(score))
    keys = np.where(np.isfinite(score), -score, np.inf)
    order: Integers = np.lexsort((drawn, keys)).astype(np.int64)
    return order


def auc_few_vs_many(score: Floats, labels: Integers, groups: Groups) -> float | None:
    """Probability that an image of a `few` class has the higher score than one of a `many` class.

    Ties count half; None where a group has no image.

    Args:
        score: (N,) finite.
        labels: (N,) classes.
        groups: of the classes.
    """
    few, many = np.isin(labels, groups.few), np.isin(labels, groups.many)
    if not few.any() or not many.any():
        return None
    return float(roc_auc_score(few[few | many], score[few | many]))


@dataclass(frozen=True)
class Finding:
    """How well one score finds the `few` classes under one rule.

    Attributes:
        score: its name.
        rule: of the groups.
        auc: of few over many; None where a group is empty.
        precision: share of `few` images among the k highest; None where fewer have a score.
        base_rate: share of `few` images among those with a score.
    """

    score: str
    rule: str
    auc: float | None
    precision: float | None
    base_rate: float


def find_few(name: str, score: Floats, labels: Integers, groups: Groups, *, top: int) -> Finding:
    """Compares a score with the classes.

    Args:
        name: of the score.
        score: (N,), NaN where unknown; such images are left out.
        labels: (N,) classes.
        groups: of the classes.
        top: the k of the precision.
    """
    known = np.isfinite(score)
    is_few = np.isin(labels, groups.few)
    return Finding(
        score=name,
        rule=groups.rule,
        auc=auc_few_vs_many(score[known], labels[known], groups),
        precision=float(is_few[rarest_first(score)[:top]].mean()) if top <= known.sum() else None,
        base_rate=float(is_few[known].mean()) if known.any() else 0.0,
    )


@dataclass(frozen=True)
class Coverage:
    """How many classes have an image among those that are labelled first.

    Attributes:
        budget: number of these images.
        num_covered: classes of the chosen images.
        random_mean: classes of as many images that are drawn at random, mean over ten draws.
        random_interval: of that mean, 95%.
    """

    budget: int
    num_covered: int
    random_mean: float
    random_interval: Interval


def measure_coverage(labels: Integers, chosen: Integers) -> Coverage:
    """Compares chosen images with as many random ones.

    Args:
        labels: (N,) classes.
        chosen: images.
    """
    covered = [
        len(np.unique(np.random.default_rng(seed).permutation(labels)[: len(chosen)]))
        for seed in range(_RANDOM_SEEDS)
    ]
    mean, error = float(np.mean(covered)), float(stats.sem(covered))
    half = error * float(stats.t.ppf((1 + _LEVEL) / 2, _RANDOM_SEEDS - 1))
    interval = Interval(mean - half, mean + half)
    return Coverage(len(chosen), len(np.unique(labels[chosen])), mean, interval)
