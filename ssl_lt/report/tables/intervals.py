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
from ssl_lt.evaluate.scores.correct_mask import unpack_correct, unpack_groups
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.group_intervals import (
    GroupedAnswers,
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
    """Those of the file, else drawn from the per-class accuracies; the same numbers either way."""
    if evaluation.intervals is not None:
        return evaluation.intervals
    return _drawn(_hits(evaluation.accuracy), _sizes(evaluation.accuracy), result.data.groups)


def difference_intervals(
    baseline: tuple[RunResult, Evaluation], run: tuple[RunResult, Evaluation]
) -> tuple[Intervals, str]:
    """Intervals of the second evaluation minus the first, and "paired" or "unpaired".

    Paired where both keep which images of the same test split they had right. A rule is left out
    where the two runs put different classes into its groups.
    """
    (first, before), (second, after) = baseline, run
    groups = [g for g in second.data.groups if g in first.data.groups]
    sizes = _sizes(before.accuracy)
    resampled = _over_groups(baseline, run, groups)
    if resampled is not None:
        return resampled
    if (
        before.answers is not None
        and after.answers is not None
        and before.answers.test_sha256 == after.answers.test_sha256
        and sizes == _sizes(after.accuracy)
    ):
        num_test = np.asarray(sizes)
        num_images = int(num_test.sum())
        found = paired_difference(
            unpack_correct(before.answers, num_images=num_images),
            unpack_correct(after.answers, num_images=num_images),
            num_test,
            groups=groups,
        )
        return found, "paired"
    return unpaired_difference(_counts(before), _counts(after), groups=groups), "unpaired"


def resampled(results: Sequence[RunResult]) -> str:
    """What the intervals of some runs are over, for a note."""
    by = {result.data.grouped_by if result.data.test_groups else "" for result in results}
    if by <= {""}:
        return "test images"
    if "" in by:
        return (
            f"test images, or groups of them ({shortened(sorted(by - {''}))}) where there are any"
        )
    return f"groups of test images ({shortened(sorted(by))})"


def _over_groups(
    baseline: tuple[RunResult, Evaluation],
    run: tuple[RunResult, Evaluation],
    groups: Sequence[Groups],
) -> tuple[Intervals, str] | None:
    """`difference_intervals` where test images belong together; None where they do not."""
    first, second = _grouped(*baseline), _grouped(*run)
    if first is None or second is None:
        return None
    if not (baseline[0].data.test_groups or run[0].data.test_groups):
        return None
    num_classes = len(baseline[1].accuracy.per_class)
    masks = [evaluation.answers.test_sha256 for _, evaluation in (baseline, run)
             if evaluation.answers is not None]  # fmt: skip
    if masks[0] == masks[1] and np.array_equal(first.labels, second.labels):
        known = first if baseline[0].data.test_groups else replace(second, right=first.right)
        return paired_group_difference(
            known, second.right, num_classes=num_classes, groups=groups
        ), "paired"
    return unpaired_group_difference(
        first, second, num_classes=num_classes, groups=groups
    ), "unpaired"


def _grouped(result: RunResult, evaluation: Evaluation) -> GroupedAnswers | None:
    """Which images were right and which belong together, class by class; None: not known."""
    if evaluation.answers is None:
        return None
    sizes = np.asarray(_sizes(evaluation.accuracy))
    number = int(sizes.sum())
    ids = np.arange(number)
    if result.data.test_groups:
        ids = unpack_groups(result.data.test_groups, num_images=number)
    right = unpack_correct(evaluation.answers, num_images=number)
    return GroupedAnswers(right, np.repeat(np.arange(sizes.size), sizes), ids)


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
