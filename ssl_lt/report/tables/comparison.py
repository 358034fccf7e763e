"""Which classes one run does better than another, and which worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssl_lt.core.groups import GROUP_NAMES
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.intervals import difference_intervals, resampled
from ssl_lt.report.tables.table import COUNT, PERCENT, POINTS, Cell, Column, Table, number_columns

_NAMES = (*GROUP_NAMES, "std")
_HOW = {
    "paired": "Intervals are paired: the same {} were drawn for both.",
    "unpaired": "Intervals are unpaired, wider than need be: which images were right is not known "
    "of both on the same test split.",
}


@dataclass(frozen=True)
class Comparison:
    """One evaluation that two runs have in common.

    Attributes:
        baseline, run: the two runs.
        before, after: the evaluation in each.
        differences: (C,) accuracy of `run` minus that of `baseline`, a fraction; None where one of
            them did not test the class.
    """

    baseline: RunResult
    run: RunResult
    before: Evaluation
    after: Evaluation
    differences: tuple[float | None, ...]


def compare(results: Sequence[RunResult]) -> tuple[Comparison, ...]:
    """The first run against each other one that has its classes, at the first shared evaluation."""
    if not results:
        return ()
    baseline, *others = results
    found = []
    for run in others:
        shared = _shared(baseline, run)
        if shared is None or run.data.class_names != baseline.data.class_names:
            continue
        before, after = shared
        pairs = zip(before.accuracy.per_class, after.accuracy.per_class, strict=True)
        differences = tuple(None if a is None or b is None else b - a for a, b in pairs)
        found.append(Comparison(baseline, run, before, after, differences))
    return tuple(found)


def difference_table(comparison: Comparison) -> Table:
    """Points gained or lost in all, and by the groups of every rule both runs have."""
    before, after = comparison.before, comparison.after
    drawn_over = resampled([comparison.baseline, comparison.run])
    intervals, how = difference_intervals((comparison.baseline, before), (comparison.run, after))
    first, second, drawn = (
        {group.rule: group for group in groups}
        for groups in (before.accuracy.groups, after.accuracy.groups, intervals.groups)
    )
    balanced = after.accuracy.balanced - before.accuracy.balanced
    rows: list[tuple[Cell, ...]] = []
    for rule in [rule for rule in second if rule in first] or ["none"]:
        old, new, interval = (
            [getattr(by_rule.get(rule), name, None) for name in _NAMES]
            for by_rule in (first, second, drawn)
        )
        rows.append((rule, balanced, *map(_difference, old, new)))
        rows.append((f"95 %, {how}", intervals.balanced, *interval))
    return Table(
        title="Difference by group",
        note="Percentage points. A lower Std means that the groups moved closer together. "
        f"{_HOW[how].format(drawn_over)} An interval without 0 is a difference that another test "
        "set would show again, not necessarily another training seed.",
        columns=(
            Column("Group rule"),
            *number_columns(POINTS, "All", "Many", "Medium", "Few", "Std"),
        ),
        rows=tuple(rows),
    )


def mover_tables(comparison: Comparison, *, limit: int = 8) -> tuple[Table, ...]:
    """The classes that gained most and those that lost most; a table with no class is left out."""
    known = [(d, c) for c, d in enumerate(comparison.differences) if d is not None]
    gained = sorted((-d, c) for d, c in known if d > 0)
    lost = sorted((d, c) for d, c in known if d < 0)
    tables = []
    for title, movers in (("Gained", gained), ("Lost", lost)):
        if movers:
            cut = f"; the first {limit} are shown" if len(movers) > limit else ""
            note = f"{len(movers)} of {len(known)} classes{cut}."
            rows = tuple(_mover(comparison, c) for _, c in movers[:limit])
            columns = (
                *(Column("Class"), Column("Training images", COUNT)),
                *number_columns(PERCENT, "Before", "After"),
                Column("Difference", POINTS),
            )
            tables.append(Table(title, note, columns, rows))
    return tuple(tables)


def chance_note(comparison: Comparison) -> str:
    """How far two runs of equal quality may lie apart in one class: two standard errors at 50 %."""
    tested = [n for n in comparison.after.accuracy.num_test_per_class if n]
    fewest = min(tested, default=1)
    points = 200 * math.sqrt(0.5 / fewest)
    return (
        f"With {fewest:,} test images a class, single classes may differ by up to about "
        f"{points:.0f} points by chance; means over groups are steadier."
    )


def _mover(comparison: Comparison, c: int) -> tuple[Cell, ...]:
    data = comparison.run.data
    return (
        data.class_names[c],
        data.counts_per_class[c],
        comparison.before.accuracy.per_class[c],
        comparison.after.accuracy.per_class[c],
        comparison.differences[c],
    )


def _shared(a: RunResult, b: RunResult) -> tuple[Evaluation, Evaluation] | None:
    by_name = {evaluation.name: evaluation for evaluation in b.evaluations}
    return next(((e, by_name[e.name]) for e in a.evaluations if e.name in by_name), None)


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
