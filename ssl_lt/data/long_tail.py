"""How many images each class keeps, which ones, and which classes are the tail."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.core.groups import Groups

_PARETO_ALPHA = 6.0


def check_imbalance_factor(factor: float | None) -> None:
    """Raises ConfigError for a factor below 1 or without end; None is one that was not given."""
    if factor is not None and not 1 <= factor < math.inf:
        raise ConfigError(f"--imbalance-factor {factor:g}: must be 1 or more")


def exponential_counts(num_classes: int, *, largest: int, imbalance_factor: float) -> list[int]:
    """n_i = int(n_max * IF^(-i / (C - 1))), class 0 the largest (Cao et al. 2019, LDAM).

    Args:
        num_classes: C.
        largest: n_max, images in class 0.
        imbalance_factor: IF = n_max / n_min, at least 1.

    Returns:
        C counts, truncated and not rounded, as the released splits have them.

    Raises:
        ConfigError: a factor that leaves a class empty.
    """
    ratio = 1.0 / imbalance_factor
    counts = [int(largest * ratio ** (i / max(num_classes - 1.0, 1.0))) for i in range(num_classes)]
    return _without_empty(counts, imbalance_factor)


def step_counts(num_classes: int, *, largest: int, imbalance_factor: float) -> list[int]:
    """First half of the classes n_max images, the rest int(n_max / IF) (Buda et al. 2018).

    With an odd number of classes the larger half is the small classes. Arguments, result and
    errors as in `exponential_counts`.
    """
    few = int(largest * (1.0 / imbalance_factor))
    num_large = num_classes // 2
    return _without_empty(
        [largest] * num_large + [few] * (num_classes - num_large), imbalance_factor
    )


def pareto_counts(num_classes: int, *, largest: int, imbalance_factor: float) -> list[int]:
    """Quantiles of a Pareto law with alpha 6, stretched to run from n_max to n_max / IF.

    ImageNet-LT (Liu et al. 2019) is described as such a law, but only its file list was released.
    For 1000 classes, n_max 1280 and IF 256 this gives 104,345 images (the list: 115,846), with
    349 / 488 / 163 many / medium / few classes (385 / 479 / 136). Arguments, result and errors as
    in `exponential_counts`.
    """
    smallest = largest / imbalance_factor
    u = (np.arange(num_classes)[::-1] + 0.5) / num_classes
    x = (1.0 - u) ** (-1.0 / _PARETO_ALPHA) - 1.0
    position = (x - x[-1]) / (x[0] - x[-1]) if num_classes > 1 else np.ones(1)
    counts = (smallest + (largest - smallest) * position).astype(np.int64)
    return _without_empty(counts.tolist(), imbalance_factor)


COUNTS: dict[str, Callable[..., list[int]]] = {
    "exponential": exponential_counts,
    "step": step_counts,
    "pareto": pareto_counts,
}


def long_tailed_counts(
    num_classes: int, *, largest: int, imbalance_factor: float, profile: str = "exponential"
) -> list[int]:
    """Images of each class of a long-tailed set, class 0 the largest.

    Args:
        num_classes: C.
        largest: n_max, images of class 0.
        imbalance_factor: n_max / n_min, at least 1.
        profile: "exponential" (the field's CIFAR-LT), "step" or "pareto"; see `COUNTS`.

    Returns:
        C counts.

    Raises:
        ConfigError: an unknown profile, or a factor below 1 or that leaves a class empty.
    """
    if profile not in COUNTS:
        raise ConfigError(f"--imbalance: {profile!r}, must be {', '.join(COUNTS)}")
    if num_classes < 1:
        raise ConfigError(f"num_classes: {num_classes}, must be at least 1")
    check_imbalance_factor(imbalance_factor)
    return COUNTS[profile](num_classes, largest=largest, imbalance_factor=imbalance_factor)


def subsample(labels: NDArray[np.int64], counts: list[int], *, seed: int) -> NDArray[np.int64]:
    """Chooses `counts[c]` rows of each class c, as the released LDAM code does.

    One `RandomState(seed)` shuffles the rows of each class in ascending label order and the first
    ones are kept; seed 0 gives the published CIFAR-LT subsets (of the original row order).

    Args:
        labels: (N,) int64; rows with a label outside 0 ... C-1 are never chosen.
        counts: C numbers of images.
        seed: of the shuffles.

    Returns:
        (sum(counts),) rows, class by class.

    Raises:
        DataError: a class has fewer images than asked for.
    """
    # The legacy generator on purpose: the published subsets are drawn with it.
    random = np.random.RandomState(seed)
    chosen = []
    for label, count in enumerate(counts):
        rows = np.flatnonzero(labels == label)
        if len(rows) < count:
            raise DataError(f"class {label} has {len(rows)} images, {count} are asked for")
        random.shuffle(rows)
        chosen.append(rows[:count])
    return np.concatenate(chosen).astype(np.int64) if chosen else np.empty(0, np.int64)


def make_long_tailed(
    labels: NDArray[np.int64], *, num_classes: int, profile: str, imbalance_factor: float, seed: int
) -> NDArray[np.int64]:
    """Chooses rows whose counts follow a profile.

    The largest class of the profile has as many images as the smallest class of the data, so that
    every class can give its share.

    Args:
        labels: (N,) int64; rows with a label outside 0 ... C-1 are never chosen.
        num_classes: C.
        profile: key of `COUNTS`.
        imbalance_factor: at least 1.
        seed: see `subsample`.

    Raises:
        ConfigError: as `long_tailed_counts` says.
    """
    smallest = int(np.bincount(labels[labels >= 0], minlength=num_classes).min())
    counts = long_tailed_counts(
        num_classes, largest=smallest, imbalance_factor=imbalance_factor, profile=profile
    )
    return subsample(labels, counts, seed=seed)


def long_tailed_subset(
    labels: ArrayLike, *, imbalance_factor: float, seed: int = 0, profile: str = "exponential"
) -> NDArray[np.int64]:
    """Rows of a long-tailed subset: those of `--imbalance-factor` and `--split-seed`.

    The largest class has as many images as the smallest one of the data. Of CIFAR in its original
    order seed 0 gives the published CIFAR-LT.

    Args:
        labels: (N,) class of each row, 0 ... C-1 with an image each.
        imbalance_factor: images of the largest class over those of the smallest, at least 1.
        seed: of the choice, 0 ... 2^32 - 1.
        profile: as in `long_tailed_counts`.

    Returns:
        (M,) int64 rows, class by class, for `torch.utils.data.Subset`.

    Raises:
        DataError: labels that are no whole numbers from 0 on, or a class without a row.
        ConfigError: as `long_tailed_counts` says.
    """
    found = np.asarray(labels)
    if found.ndim != 1 or not found.size or not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"labels: {found.dtype} of shape {found.shape}, expected one whole number a row"
        )
    if found.min() < 0:
        raise DataError(f"labels: {found.min()} is no class")
    found = found.astype(np.int64)
    empty = np.flatnonzero(np.bincount(found) == 0)
    if empty.size:
        raise DataError(f"labels: no row of class {empty[0]} ({empty.size} such classes)")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"--split-seed {seed}: must be in 0 ... 2^32 - 1")
    return make_long_tailed(
        found,
        num_classes=int(found.max()) + 1,
        profile=profile,
        imbalance_factor=imbalance_factor,
        seed=seed,
    )


def groups_by_count(counts_per_class: NDArray[np.int64]) -> Groups:
    """Many: more than 100 training images, medium: 20 to 100, few: fewer than 20 (ImageNet-LT)."""
    counts = np.asarray(counts_per_class)
    return Groups(
        rule="by count (many > 100, medium 20-100, few < 20)",
        many=_classes(np.flatnonzero(counts > 100)),
        medium=_classes(np.flatnonzero((counts >= 20) & (counts <= 100))),
        few=_classes(np.flatnonzero(counts < 20)),
    )


def groups_by_thirds(counts_per_class: NDArray[np.int64]) -> Groups:
    """Classes sorted by training images, cut in three; the remainder goes to many.

    The convention of SDCLR, BCL and GH on CIFAR: 4 / 3 / 3 of 10 classes, 34 / 33 / 33 of 100.
    Classes of equal size keep their label order.
    """
    order = np.argsort(np.asarray(counts_per_class), kind="stable")
    third = len(order) // 3
    few, medium, many = np.split(order, [third, 2 * third])
    return Groups("by thirds of the classes", _classes(many), _classes(medium), _classes(few))


def _classes(numbers: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(np.sort(numbers).tolist())


def _without_empty(counts: list[int], imbalance_factor: float) -> list[int]:
    if min(counts) < 1:
        raise ConfigError(
            f"--imbalance-factor {imbalance_factor:g}: leaves {counts.count(0)} of {len(counts)} "
            f"classes without an image; the largest has {max(counts)}"
        )
    return counts
