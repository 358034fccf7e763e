"""The same training with several seeds: mean and standard deviation, and the runs as one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_lt.evaluate.accuracy import Accuracy, GroupAccuracy, accuracy_from_confusion
from ssl_lt.report.intervals import as_groups
from ssl_lt.report.results import ClassGroups, Evaluation, RunResult, Timing
from ssl_lt.report.tables import Table

COLUMNS = ("all", "many", "medium", "few", "std", "harmonic")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of `count` seeds; 0 for a single one."""

    mean: float
    std: float
    count: int

    def __str__(self) -> str:
        mean = f"{self.mean:.1f}"
        return f"{mean} ± {self.std:.1f}" if self.count > 1 else mean


def spread(values: Sequence[float | None]) -> Spread | None:
    """Of one number a seed; None where a seed has none."""
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return None
    std = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return Spread(statistics.fmean(numbers), std, len(numbers))


def leading_groups(accuracy: Accuracy) -> GroupAccuracy:
    """The first rule under which no group is empty, else the first."""
    full = (g for g in accuracy.groups if None not in (g.many, g.medium, g.few))
    return next(full, accuracy.groups[0])


def spreads(evaluations: Sequence[Evaluation]) -> dict[str, Spread | None]:
    """Each of `COLUMNS` in percent, under the rule of `leading_groups`.

    Args:
        evaluations: one a seed, all of the same name.
    """
    found: dict[str, list[float | None]] = {key: [] for key in COLUMNS}
    for evaluation in evaluations:
        accuracy, groups = evaluation.accuracy, leading_groups(evaluation.accuracy)
        values = (accuracy.balanced, groups.many, groups.medium, groups.few, groups.std)
        for key, value in zip(COLUMNS, (*values, accuracy.harmonic), strict=True):
            found[key].append(None if value is None else 100 * value)
    return {key: spread(values) for key, values in found.items()}


@dataclass(frozen=True)
class SeedRow:
    """One training under one evaluation: `columns` are named as in `COLUMNS`."""

    run: str
    evaluation: str
    columns: Mapping[str, Spread | None]


def seed_rows(runs: Mapping[str, Sequence[RunResult]]) -> tuple[SeedRow, ...]:
    """Mean and standard deviation of every evaluation that the first seed has.

    Args:
        runs: name of the training -> its runs, one a seed.
    """
    rows = []
    for name, results in runs.items():
        for evaluation in results[0].evaluations:
            same = [e for r in results for e in r.evaluations if e.name == evaluation.name]
            rows.append(SeedRow(name, evaluation.name, spreads(same)))
    return tuple(rows)


def seed_table(rows: Sequence[SeedRow], *, rule: str) -> Table:
    """The rows for people.

    Args:
        rows: of `seed_rows`.
        rule: of the groups.
    """
    cells = [[row.columns[key] for key in COLUMNS] for row in rows]
    return Table(
        title="Seeds",
        note="Percent, last epoch; mean ± standard deviation where there are several seeds. "
        f"Groups {rule}. Std is over the groups, Harmonic the harmonic mean over classes.",
        columns=("Run", "Evaluation", "All", "Many", "Medium", "Few", "Std", "Harmonic"),
        rows=tuple(
            (row.run, row.evaluation, *("n/a" if c is None else str(c) for c in found))
            for row, found in zip(rows, cells, strict=True)
        ),
        num_text_columns=2,
    )


def pooled(results: Sequence[RunResult], *, name: str) -> RunResult:
    """Runs that differ by their seed as one run, whose accuracies are the means of theirs.

    Only what every run has is kept: evaluations of the same name. A single run is itself under
    another name.
    """
    first = results[0]
    if len(results) == 1:
        return replace(first, name=name)
    evaluations = []
    for evaluation in first.evaluations:
        same = [e for r in results for e in r.evaluations if e.name == evaluation.name]
        if len(same) == len(results) and all(e.confusion for e in same):
            note = f"{evaluation.note}, mean of {len(same)} seeds"
            evaluations.append(mean_evaluation(same, first.data.groups, note=note))
    seconds = [r.timing.seconds for r in results if r.timing]
    return replace(
        first,
        name=name,
        evaluations=tuple(evaluations),
        curves={},
        representations=(),
        timing=Timing(statistics.fmean(seconds)) if seconds else None,
    )


def mean_evaluation(
    evaluations: Sequence[Evaluation], groups: Sequence[ClassGroups], *, note: str
) -> Evaluation:
    """The mean over evaluations of one name on the same test images; each keeps its confusion.

    The accuracy of a class is the mean; what is told of the classes is told of those means.
    """
    confusion = np.sum([np.asarray(e.confusion) for e in evaluations], axis=0)
    accuracy = accuracy_from_confusion(confusion, groups=as_groups(groups))
    first = evaluations[0]
    return Evaluation(
        name=first.name,
        # The test images are the same ones every time.
        accuracy=replace(accuracy, num_test_per_class=first.accuracy.num_test_per_class),
        note=note,
    )
