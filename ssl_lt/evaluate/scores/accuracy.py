"""Accuracy a class, and what is told of it: balanced, groups, means, the worst class.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups, GroupStatistics
from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.evaluate.scores.confusion import check_predictions


@dataclass(frozen=True)
class GroupAccuracy(GroupStatistics[float | None]):
    """Mean per-class accuracy of each group, a fraction; None where no class of it was tested.

    Attributes:
        std: population standard deviation of those that exist; None if fewer than two do.
        num_classes: how many tested classes stand behind many, medium and few.
    """

    # Declared again, because pydantic does not see what the base's type variable stands for.
    many: float | None
    medium: float | None
    few: float | None
    std: float | None
    num_classes: tuple[int, int, int]


@dataclass(frozen=True)
class Accuracy:
    """What one classifier got right on one test set; every value is a fraction.

    Attributes:
        per_class: (C,) accuracy of each class, None where the test set has no image of it.
        num_test_per_class: (C,) test images.
        balanced: mean of `per_class`: top-1 accuracy as if every class were equally frequent.
        overall: share of all test images that are right.
        harmonic: harmonic mean of `per_class`, 0 if any class is at 0.
        harmonic_floored: the same with each accuracy at least 1 / (test images of the class), so
            that one class at 0 does not hide the others.
        geometric: geometric mean of `per_class`, 0 if any class is at 0.
        class_std: population standard deviation of `per_class`.
        worst, worst_class: the lowest accuracy and the first class that has it.
        groups: one entry a rule.
    """

    per_class: tuple[float | None, ...]
    num_test_per_class: tuple[int, ...]
    balanced: float
    overall: float
    harmonic: float
    harmonic_floored: float
    geometric: float
    class_std: float
    worst: float
    worst_class: int
    groups: tuple[GroupAccuracy, ...]


def accuracy_from_counts(
    hits: NDArray[np.int64] | NDArray[np.float64],
    num_test: NDArray[np.int64],
    *,
    groups: Sequence[Groups] = (),
) -> Accuracy:
    """All summary numbers.

    Args:
        hits: (C,) right test images of each class, or their mean over several classifiers.
        num_test: (C,) test images of each class.
        groups: rules that split the classes by their training counts.

    Raises:
        DataError: the test set is empty.
    """
    tested = num_test > 0
    if not tested.any():
        raise DataError("labels: the test set is empty")
    per_class = hits / np.maximum(num_test, 1)
    a = per_class[tested]
    worst_class = int(np.flatnonzero(tested)[a.argmin()])
    return Accuracy(
        per_class=tuple(
            float(x) if seen else None for x, seen in zip(per_class, tested, strict=True)
        ),
        num_test_per_class=tuple(int(n) for n in num_test),
        balanced=float(a.mean()),
        overall=float(hits.sum() / num_test.sum()),
        harmonic=_harmonic(a),
        harmonic_floored=_harmonic(np.maximum(a, 1 / num_test[tested])),
        geometric=float(np.exp(np.log(a).mean())) if a.min() > 0 else 0.0,
        class_std=float(a.std()),
        worst=float(per_class[worst_class]),
        worst_class=worst_class,
        groups=tuple(_group_accuracy(per_class, tested, group) for group in groups),
    )


def accuracy(
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    groups: Sequence[Groups] = (),
) -> Accuracy:
    """`accuracy_from_counts` of (N,) predicted and true classes, both integers in [0, C).

    Raises:
        DataError: as `check_predictions` says.
    """
    predicted, true = check_predictions(predictions, labels, num_classes=num_classes)
    hits, num_test = (
        np.bincount(rows, minlength=num_classes) for rows in (true[true == predicted], true)
    )
    return accuracy_from_counts(hits, num_test, groups=groups)


def accuracy_by_group(predictions: ArrayLike, labels: ArrayLike, counts: ArrayLike) -> Accuracy:
    """Balanced accuracy, and that of the many-, medium- and few-shot classes.

    Args:
        predictions: (N,) integers in 0 ... C-1.
        labels: (N,) integers in 0 ... C-1.
        counts: (C,) training images of each class.

    Returns:
        Fractions; `groups` has two rules, by count (more than 100, 20 to 100, fewer than 20) and
        by thirds of the classes.

    Raises:
        DataError: other shapes, no rows, or a number outside the classes.
    """
    found = np.asarray(counts)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.number):
        raise DataError(f"counts: {found.dtype} of shape {found.shape}, expected one a class")
    groups = (groups_by_count(found), groups_by_thirds(found))
    return accuracy(predictions, labels, num_classes=len(found), groups=groups)


def _harmonic(a: NDArray[np.float64]) -> float:
    """C / sum_j 1/a_j, and 0 where it is undefined."""
    return float(a.size / (1 / a).sum()) if a.min() > 0 else 0.0


def _group_accuracy(
    per_class: NDArray[np.float64], tested: NDArray[np.bool_], groups: Groups
) -> GroupAccuracy:
    """Unweighted means over the tested classes of each group."""
    present = groups.map(lambda classes: [c for c in classes if tested[c]])
    means = present.map(lambda classes: float(per_class[classes].mean()) if classes else None)
    known = [mean for _, mean in means if mean is not None]
    return GroupAccuracy(
        *(groups.rule, means.many, means.medium, means.few),
        std=float(np.std(known)) if len(known) > 1 else None,
        num_classes=(len(present.many), len(present.medium), len(present.few)),
    )
