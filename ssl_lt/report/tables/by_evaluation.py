"""Rows of a run and an evaluation each, what is to be compared side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.table import Cell, Column, text_columns


def leading_columns(results: Sequence[RunResult], *names: str) -> tuple[Column, ...]:
    """Headings at the left: the run where there are several, and what else names a row."""
    return text_columns(*(["Run"] if len(results) > 1 else []), *names)


def rows_by_evaluation(
    results: Sequence[RunResult],
    cells: Callable[[RunResult, Evaluation], tuple[Cell, ...] | None],
) -> tuple[tuple[Cell, ...], ...]:
    """A row a run and evaluation; none where there are no cells."""
    pairs = [(result, e) for result in results for e in result.evaluations]
    order = list(dict.fromkeys(e.name for _, e in pairs))
    pairs.sort(key=lambda pair: order.index(pair[1].name))
    several = len(results) > 1
    return tuple(
        (*([result.name] if several else []), e.name, *found)
        for result, e in pairs
        if (found := cells(result, e)) is not None
    )
