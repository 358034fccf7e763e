"""Confidence intervals of what a report shows: stored ones, or drawn anew from an older file."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.scores.accuracy import Accuracy
from ssl_lt.evaluate.scores.correct_mask import unpack_correct
from ssl_lt.evaluate.scores.evaluation import Evaluation
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
