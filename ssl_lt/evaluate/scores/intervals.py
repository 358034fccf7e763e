"""Confidence intervals of accuracies: a bootstrap over test images, stratified by class.

Resampling the n_c test images of a class with replacement makes its number of right answers a
binomial draw, so no image is ever touched: one draw a class and resample. Only what another test
set of the same size would change is covered, not what another training seed would.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import GROUP_NAMES, Groups, GroupStatistics


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both fractions (or differences of fractions)."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Of one evaluation, or of the difference of two.

    Attributes:
        balanced: of the mean of the per-class accuracies.
        groups: None where `GroupAccuracy` has None; one entry a rule.
        level: share of the resamples inside.
        num_resamples: drawn.
    """

    balanced: Interval
    groups: tuple[GroupStatistics[Interval | None], ...]
    level: float
    num_resamples: int


@dataclass(frozen=True)
class BootstrapOptions:
    """How intervals are drawn.

    Attributes:
        seed: of the draws.
        num_resamples: R.
        level: share of the resamples inside.
    """

    seed: int = 0
    num_resamples: int = 2000
    level: float = 0.95


_DEFAULT = BootstrapOptions()

# (R,) values of each number of `Intervals`, by rule and name.
Resampled: TypeAlias = dict[tuple[str, str], NDArray[np.float64]]
_BALANCED = ("", "balanced")
_LARGEST = 1 << 20  # draws that are held at once
# (R, K) accuracies of some classes -> (R,) means.
Mean: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _mean(per_class: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = per_class.mean(axis=1)
    return means


def bootstrap(
    hits: NDArray[np.int64],
    num_test: NDArray[np.int64],
    *,
    groups: Sequence[Groups] = (),
    options: BootstrapOptions = _DEFAULT,
) -> Intervals:
    """Percentile intervals of the balanced accuracy, each group's, and their std.

    The std of noisy groups is larger than that of the true ones, so its interval lies high: where
    the groups are nearly even, even the measured value may stand at its lower end.

    Args:
        hits: (C,) right test images of each class.
        num_test: (C,) test images of each class; classes without any are left out.
        groups: rules that split the classes.
        options: of the draws.

    Raises:
        DataError: no test image at all, or more hits than images.
    """
    random = np.random.default_rng(options.seed)
    resampled = _resampled(random, hits, num_test, groups, options.num_resamples)
    return percentiles(resampled, groups, options.level)


def paired_difference(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    num_test: NDArray[np.int64],
    *,
    groups: Sequence[Groups] = (),
    options: BootstrapOptions = _DEFAULT,
) -> Intervals:
    """Intervals of `after` minus `before` on the same test images, each drawn for both at once.

    Of the n_c images of a class, both, the first, the second or neither are right: a multinomial
    draw of four counts a class and resample.

    Args:
        before: (N,) which images the first classifier has right, class by class.
        after: (N,) the same images under the second.
        num_test: (C,) images of each class, N together.
        groups: rules that split the classes.
        options: of the draws.

    Raises:
        DataError: the lengths do not fit.
    """
    if not before.shape == after.shape == (int(num_test.sum()),) or not before.size:
        raise DataError(
            f"answers: {before.size} and {after.size} of {int(num_test.sum())} test images"
        )
    classes = np.repeat(np.arange(num_test.size), num_test)
    outcome = 2 * before.astype(np.int64) + after
    counts = np.bincount(4 * classes + outcome, minlength=4 * num_test.size).reshape(-1, 4)
    counts[num_test == 0, 0] = 1  # all of the none of a class without images are neither
    size = np.maximum(num_test, 1)
    random = np.random.default_rng(options.seed)
    parts = []
    for shape in shapes(options.num_resamples, num_test.size):
        drawn = random.multinomial(num_test, counts / size[:, None], size=shape)
        first = statistics_of((drawn[..., 2] + drawn[..., 3]) / size, num_test, groups)
        second = statistics_of((drawn[..., 1] + drawn[..., 3]) / size, num_test, groups)
        parts.append(minus(second, first))
    return percentiles(joined(parts), groups, options.level)


def unpaired_difference(
    before: tuple[NDArray[np.int64], NDArray[np.int64]],
    after: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    groups: Sequence[Groups] = (),
    options: BootstrapOptions = _DEFAULT,
) -> Intervals:
    """Intervals of `after` minus `before` as if on separate test sets.

    On the same images they are wider than they need be: what is hard for one is hard for the other.

    Args:
        before: hits and num_test, both (C,), of the first classifier.
        after: of the second.
        groups: rules that split the classes.
        options: of the draws.

    Raises:
        DataError: as in `bootstrap`.
    """
    random = np.random.default_rng(options.seed)
    first, second = (
        _resampled(random, hits, num_test, groups, options.num_resamples)
        for hits, num_test in (before, after)
    )
    return percentiles(minus(second, first), groups, options.level)


def _resampled(
    random: np.random.Generator,
    hits: NDArray[np.int64],
    num_test: NDArray[np.int64],
    groups: Sequence[Groups],
    num_resamples: int,
) -> Resampled:
    """Statistics of resampled hits; raises DataError for counts that do not fit."""
    if hits.shape != num_test.shape or not num_test.sum():
        raise DataError(f"bootstrap: {hits.size} hits, {int(num_test.sum())} test images")
    if (hits < 0).any() or (hits > num_test).any():
        raise DataError("bootstrap: a class has more right test images than it has")
    size = np.maximum(num_test, 1)
    return joined(
        [
            statistics_of(
                random.binomial(num_test, hits / size, size=shape) / size, num_test, groups
            )
            for shape in shapes(num_resamples, hits.size)
        ]
    )


def shapes(num_resamples: int, num_classes: int) -> Iterator[tuple[int, int]]:
    """All resamples in parts, of which thousands of classes fit into memory."""
    at_once = max(1, _LARGEST // num_classes)
    for start in range(0, num_resamples, at_once):
        yield min(at_once, num_resamples - start), num_classes


def joined(parts: Sequence[Resampled]) -> Resampled:
    """All resamples, in their order."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def statistics_of(
    per_class: NDArray[np.float64],
    num_test: NDArray[np.int64],
    groups: Sequence[Groups],
    *,
    mean: Mean = _mean,
) -> Resampled:
    """As `accuracy.accuracy_from_counts` has them, of every resample (R, C)."""
    tested = num_test > 0
    resampled = {_BALANCED: mean(per_class[:, tested])}
    for group in groups:
        present = {name: [c for c in classes if tested[c]] for name, classes in group}
        means = {name: mean(per_class[:, c]) for name, c in present.items() if c}
        if len(means) > 1:
            means["std"] = np.std(list(means.values()), axis=0)
        resampled |= {(group.rule, name): values for name, values in means.items()}
    return resampled


def minus(after: Resampled, before: Resampled) -> Resampled:
    """The differences of what both have."""
    return {key: after[key] - before[key] for key in after if key in before}


def percentiles(resampled: Resampled, groups: Sequence[Groups], level: float) -> Intervals:
    """Intervals of the resampled statistics."""
    at = [(1 - level) / 2, (1 + level) / 2]
    intervals = {
        key: Interval(*np.quantile(values[~np.isnan(values)], at).tolist())
        for key, values in resampled.items()
    }
    names = (*GROUP_NAMES, "std")
    return Intervals(
        balanced=intervals[_BALANCED],
        groups=tuple(
            GroupStatistics(g.rule, *(intervals.get((g.rule, name)) for name in names))
            for g in groups
        ),
        level=level,
        num_resamples=resampled[_BALANCED].size,
    )
