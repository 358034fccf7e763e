"""One classifier on the test set, and several of them as one.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_lt.core.groups import GROUP_NAMES, Groups, leading_groups
from ssl_lt.evaluate.scores.accuracy import Accuracy, accuracy_from_counts
from ssl_lt.evaluate.scores.calibration import Calibration
from ssl_lt.evaluate.scores.confusion import Confusion
from ssl_lt.evaluate.scores.correct_mask import CorrectMask, mean_correct
from ssl_lt.evaluate.scores.intervals import Intervals

COLUMNS = ("all", *GROUP_NAMES, "std", "harmonic")


@dataclass(frozen=True)
class Evaluation:
    """One classifier on the test set.

    Attributes:
        name: such as "kNN", "linear probe", "classifier", "random init: kNN".
        accuracy: its numbers.
        note: settings worth a line, such as "k = 20, temperature 0.07".
        confusion: test images by true and predicted class; None if not kept.
        intervals: confidence intervals of the accuracies; None if not drawn.
        calibration: of classifiers that give probabilities; None of others.
        answers: which test images were right, of a mean each time; None if not kept.
        draws: balanced accuracy of each draw of few labels that `accuracy` is the mean of.
    """

    name: str
    accuracy: Accuracy
    note: str = ""
    confusion: Confusion | None = None
    intervals: Intervals | None = None
    calibration: Calibration | None = None
    answers: CorrectMask | None = None
    draws: tuple[float, ...] = ()


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation of `count` seeds; 0 for a single one."""

    mean: float
    std: float
    count: int

    def __str__(self) -> str:
        mean = f"{self.mean:.1f}"
        return f"{mean} ± {self.std:.1f}" if self.count > 1 else mean


def mean_std(values: Sequence[float | None]) -> MeanStd | None:
    """Of one number a seed; None where a seed has none."""
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    std = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return MeanStd(statistics.fmean(numbers), std, len(numbers))


def mean_stds(evaluations: Sequence[Evaluation]) -> dict[str, MeanStd | None]:
    """Each of `COLUMNS` in percent, under the rule of `leading_groups`.

    Args:
        evaluations: one a seed, all of the same name.
    """
    rows = [_columns(evaluation.accuracy) for evaluation in evaluations]
    return {
        key: mean_std([None if row[key] is None else 100 * row[key] for row in rows])
        for key in COLUMNS
    }


def _columns(accuracy: Accuracy) -> dict[str, Any]:
    groups = leading_groups(accuracy.groups)
    by_group = dict.fromkeys(GROUP_NAMES) if groups is None else dict(groups)
    std = None if groups is None else groups.std
    return {"all": accuracy.balanced, **by_group, "std": std, "harmonic": accuracy.harmonic}


def mean_evaluation(
    evaluations: Sequence[Evaluation], groups: Sequence[Groups], *, note: str
) -> Evaluation:
    """The mean over evaluations of one name on the same test images; each keeps its confusion.

    The accuracy of a class is the mean; what is told of the classes is told of those means. Its
    answers are those of all, if each keeps them.
    """
    sizes = np.asarray(evaluations[0].accuracy.num_test_per_class)
    kept = [e.confusion for e in evaluations if e.confusion is not None]
    hits = np.mean([confusion.hits(num_classes=sizes.size) for confusion in kept], axis=0)
    masks = [e.answers for e in evaluations if e.answers is not None]
    whole = len(masks) == len(evaluations)
    return Evaluation(
        name=evaluations[0].name,
        accuracy=accuracy_from_counts(hits, sizes, groups=groups),
        note=note,
        answers=mean_correct(masks, num_images=int(sizes.sum())) if whole else None,
    )
