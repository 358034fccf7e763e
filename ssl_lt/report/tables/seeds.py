"""The same training with several seeds: mean and standard deviation, and the runs as one."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ssl_lt.core.groups import GROUP_NAMES, leading_rule
from ssl_lt.evaluate.scores.evaluation import (
    Evaluation,
    MeanStd,
    mean_evaluation,
    mean_std,
    mean_stds,
)
from ssl_lt.evaluate.scores.intervals import Interval
from ssl_lt.report.records.curves import at_start
from ssl_lt.report.records.results import RunResult, Timing
from ssl_lt.report.tables.intervals import intervals_of
from ssl_lt.report.tables.table import Cell, Format, PlusMinus, Table, number_columns, text_columns

# What has an interval: the mean over classes, and the groups.
GROUPED = ("all", *GROUP_NAMES)
_PLAIN = Format(1)


@dataclass(frozen=True)
class SeedRow:
    """One training under one evaluation, in percent.

    Attributes:
        run: name of the training.
        evaluation: such as "classifier".
        columns: over the seeds, named as in `COLUMNS`.
        intervals: of the means over the seeds, 95 % over test images; "all" and the groups.
        before: accuracy before the first step, where a head was fitted to features.
    """

    run: str
    evaluation: str
    columns: Mapping[str, MeanStd | None]
    intervals: Mapping[str, Interval | None]
    before: MeanStd | None


def seed_rows(runs: Mapping[str, Sequence[RunResult]]) -> tuple[SeedRow, ...]:
    """Mean and standard deviation of every evaluation that the first seed has.

    Args:
        runs: name of the training -> its runs, one a seed.
    """
    rows = []
    for name, results in runs.items():
        mean = pooled(results, name=name)
        starts = [at_start(result.curves) for result in results]
        before = mean_std([None if start is None else 100 * start for start in starts])
        for evaluation in results[0].evaluations:
            columns = mean_stds(_named(evaluation.name, results))
            intervals = _intervals(mean, evaluation.name)
            rows.append(SeedRow(name, evaluation.name, columns, intervals, before))
    return tuple(rows)


def _named(name: str, results: Sequence[RunResult]) -> list[Evaluation]:
    return [e for result in results for e in result.evaluations if e.name == name]


def _intervals(mean: RunResult, name: str) -> dict[str, Interval | None]:
    """Under the rule of `mean_stds`; none of an evaluation that not every seed has."""
    found = dict[str, Interval | None].fromkeys(GROUPED)
    for evaluation in _named(name, [mean]):
        drawn, rule = intervals_of(mean, evaluation), leading_rule(evaluation.accuracy.groups)
        groups = next((dict(group) for group in drawn.groups if group.rule == rule), {})
        found |= {"all": drawn.balanced, **groups}
    return {
        key: None if i is None else Interval(100 * i.low, 100 * i.high) for key, i in found.items()
    }


def seed_table(
    rows: Sequence[SeedRow],
    *,
    rule: str,
    over: str = "test images",
    intervals: Sequence[str] = GROUPED,
) -> Table:
    """The rows for people.

    Args:
        rows: of `seed_rows`.
        rule: of the groups.
        over: what the intervals resample, see `resampled`.
        intervals: columns that have one beside them.
    """
    several = len({row.evaluation for row in rows}) > 1
    fitted = any(row.before is not None for row in rows)
    columns = text_columns("Start", *(["Evaluation"] if several else []))
    columns += number_columns(_PLAIN, *(["Before"] if fitted else []))
    for key in GROUPED:
        name = key.capitalize()
        names = [name, f"{name}, 95 %"] if key in intervals else [name]
        columns += number_columns(_PLAIN, *names)

    def cells(row: SeedRow) -> Iterator[Cell]:
        yield row.run
        if several:
            yield row.evaluation
        if fitted:
            yield None if row.before is None else row.before.mean
        for key in GROUPED:
            yield _cell(row.columns[key])
            if key in intervals:
                yield row.intervals[key]

    note = (
        "Percent; mean ± standard deviation where there are several seeds. 95 % are intervals of "
        f"the mean over {over}, which say nothing of other seeds. Groups {rule}."
    )
    if fitted:
        note += (
            " Before is the accuracy before the first step of a head fitted to the features, on "
            "the images that are looked at between epochs."
        )
    return Table("Starts", note, columns, tuple(tuple(cells(row)) for row in rows))


def _cell(number: MeanStd | None) -> Cell:
    if number is None:
        return None
    return PlusMinus(number.mean, number.std) if number.count > 1 else number.mean


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
        same = _named(evaluation.name, results)
        if len(same) == len(results) and all(e.confusion is not None for e in same):
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
