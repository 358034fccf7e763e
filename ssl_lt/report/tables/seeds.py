"""The same training with several seeds: mean and standard deviation, and the runs as one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ssl_lt.evaluate.scores.evaluation import (
    COLUMNS,
    Evaluation,
    MeanStd,
    mean_evaluation,
    mean_stds,
)
from ssl_lt.report.records.results import RunResult, Timing
from ssl_lt.report.tables.table import Cell, Format, PlusMinus, Table, number_columns, text_columns


@dataclass(frozen=True)
class SeedRow:
    """One training under one evaluation: `columns` are named as in `COLUMNS`."""

    run: str
    evaluation: str
    columns: Mapping[str, MeanStd | None]


def seed_rows(runs: Mapping[str, Sequence[RunResult]]) -> tuple[SeedRow, ...]:
    """Mean and standard deviation of every evaluation that the first seed has.

    Args:
        runs: name of the training -> its runs, one a seed.
    """
    rows = []
    for name, results in runs.items():
        for evaluation in results[0].evaluations:
            same = _named(evaluation.name, results)
            rows.append(SeedRow(name, evaluation.name, mean_stds(same)))
    return tuple(rows)


def _named(name: str, results: Sequence[RunResult]) -> list[Evaluation]:
    return [e for result in results for e in result.evaluations if e.name == name]


def seed_table(rows: Sequence[SeedRow], *, rule: str) -> Table:
    """The rows for people.

    Args:
        rows: of `seed_rows`.
        rule: of the groups.
    """
    return Table(
        title="Seeds",
        note="Percent; mean ± standard deviation where there are several seeds. "
        f"Groups {rule}. Std is over the groups, Harmonic the harmonic mean over classes.",
        columns=(
            *text_columns("Run", "Evaluation"),
            *number_columns(Format(1), "All", "Many", "Medium", "Few", "Std", "Harmonic"),
        ),
        rows=tuple(
            (row.run, row.evaluation, *(_cell(row.columns[key]) for key in COLUMNS)) for row in rows
        ),
    )


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
