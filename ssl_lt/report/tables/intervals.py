"""Confidence intervals of what a report shows: stored ones, or drawn anew from an older file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import shortened
from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.scores.accuracy import Accuracy
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.group_intervals import (
    GroupedAnswers,
    grouped_answers,
    mask_intervals,
    paired_group_difference,
    unpaired_group_difference,
)
from ssl_lt.evaluate.scores.intervals import (
    Intervals,
    bootstrap,
    paired_difference,
    unpaired_difference,
)
from ssl_lt.report.records.results import RunResult


def intervals_of(result: RunResult, evaluation: Evaluation) -> Intervals:
    """Those of the file, else drawn from what it has: the same numbers either way."""
    if evaluation.intervals is not None:
        return evaluation.intervals
    mask, sizes, groups = evaluation.answers, _sizes(evaluation.accuracy), result.data.groups
    if mask is not None and (result.data.test_groups or mask.tries > 1):
        return mask_intervals(mask, sizes, result.data.test_groups, groups)
    return _drawn(_hits(evaluation.accuracy), sizes, groups)


def difference_intervals(
    baseline: tuple[RunResult, Evaluation], run: tuple[RunResult, Evaluation]
) -> tuple[Intervals, str]:
    """Intervals of the second evaluation minus the first, and "paired" or "unpaired".

    Paired where both keep which images of the same test split they had right, each time if they are
    means. A rule is left out where the two runs put different classes into its groups.
    """
    (first, before), (second, after) = baseline, run
    groups = [g for g in second.data.groups if g in first.data.groups]
    old, new = _answers(first, before), _answers(second, after)
    grouped = bool(first.data.test_groups or second.data.test_groups)
    same = (
        old is not None
        and new is not None
        and _test_split(before) == _test_split(after)
        and np.array_equal(old.labels, new.labels)
    )
    by_image = grouped or any(e.answers and e.answers.tries > 1 for e in (before, after))
    if old is None or new is None or not (same or by_image):
        return unpaired_difference(_counts(before), _counts(after), groups=groups), "unpaired"
    num_classes = len(before.accuracy.per_class)
    if not same:
        apart = unpaired_group_difference(old, new, num_classes=num_classes, groups=groups)
        return apart, "unpaired"
    if not by_image:
        num_test = np.bincount(old.labels, minlength=num_classes)
        rights = old.right.astype(np.bool_), new.right.astype(np.bool_)
        return paired_difference(*rights, num_test, groups=groups), "paired"
    if not first.data.test_groups:  # of the same images the other run says it
        old = replace(new, right=old.right)
    found = paired_group_difference(old, new.right, num_classes=num_classes, groups=groups)
    return found, "paired"


def resampled(results: Sequence[RunResult]) -> str:
    """What the intervals of some runs are over, for a note."""
    by = {
        result.data.grouped_by if result.data.test_groups and (e.intervals or e.answers) else ""
        for result in results
        for e in result.evaluations
    }
    if by <= {""}:
        return "test images"
    if "" in by:
        return (
            f"test images, or groups of them ({shortened(sorted(by - {''}))}) where they are known"
        )
    return f"groups of test images ({shortened(sorted(by))})"


def _answers(result: RunResult, evaluation: Evaluation) -> GroupedAnswers | None:
    """Which images were right and which belong together, class by class; None: not known."""
    if evaluation.answers is None:
        return None
    sizes = _sizes(evaluation.accuracy)
    return grouped_answers(evaluation.answers, sizes, test_groups=result.data.test_groups)


def _test_split(evaluation: Evaluation) -> str:
    return "" if evaluation.answers is None else evaluation.answers.test_sha256


@lru_cache(maxsize=1024)
def _drawn(
    hits: tuple[int, ...], num_test: tuple[int, ...], groups: tuple[Groups, ...]
) -> Intervals:
    return bootstrap(np.asarray(hits), np.asarray(num_test), groups=groups)


def _hits(accuracy: Accuracy) -> tuple[int, ...]:
    # Rounded: the mean of several seeds need not be a whole number of images.
    pairs = zip(accuracy.per_class, accuracy.num_test_per_class, strict=True)
    return tuple(round((share or 0.0) * n) for share, n in pairs)


def _sizes(accuracy: Accuracy) -> tuple[int, ...]:
    # A class whose accuracy is not known was not tested.
    pairs = zip(accuracy.per_class, accuracy.num_test_per_class, strict=True)
    return tuple(0 if share is None else n for share, n in pairs)


def _counts(evaluation: Evaluation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    accuracy = evaluation.accuracy
    return np.asarray(_hits(accuracy)), np.asarray(_sizes(accuracy))
