"""The tables a report leads with: a row a run and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ssl_lt.core.groups import GROUP_NAMES, GroupStatistics
from ssl_lt.evaluate.scores.accuracy import GroupAccuracy
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.intervals import Interval, Intervals
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.intervals import intervals_of
from ssl_lt.report.tables.measures import calibration_table, representation_table
from ssl_lt.report.tables.table import Table, leading_columns, percent, percent_within

_COLUMNS = (*GROUP_NAMES, "std")


def summary_tables(results: Sequence[RunResult]) -> tuple[Table, ...]:
    """Accuracy under each group rule, what the mean hides, calibration, and the representation.

    The last two are left out where no run has numbers for them.
    """
    rules: dict[str, None] = {}
    for result in results:
        for evaluation in result.evaluations:
            rules |= dict.fromkeys(group.rule for group in evaluation.accuracy.groups)
    by_rule = (_group_table(results, rule, first=i == 0) for i, rule in enumerate(rules))
    measured = (calibration_table(results), representation_table(results))
    return (*by_rule, _means_table(results), *(table for table in measured if table.rows))


def _group_table(results: Sequence[RunResult], rule: str, *, first: bool) -> Table:
    sizes: dict[str, None] = {}

    def numbers(result: RunResult, evaluation: Evaluation) -> tuple[str, ...]:
        intervals = intervals_of(result, evaluation)
        balanced = percent_within(evaluation.accuracy.balanced, intervals.balanced)
        found = _group(evaluation, rule)
        if found is None:
            return (balanced, *["n/a"] * len(_COLUMNS))
        sizes[" / ".join(map(str, found.num_classes))] = None
        within = _group_intervals(intervals, rule)
        pairs = ((getattr(found, name), getattr(within, name, None)) for name in _COLUMNS)
        return (balanced, *(percent_within(*pair) for pair in pairs))

    rows = rows_by_evaluation(results, numbers)
    return Table(
        title="Accuracy" if first else f"Accuracy, groups {rule.split(' (')[0]}",
        note="Percent ± half of the 95 % interval over test images, which says nothing of other "
        f"training seeds; All is the mean over classes. Groups {rule}: "
        f"{' or '.join(sizes) or 'no'} classes. Std is over the groups.",
        columns=(*leading_columns(results, "Evaluation"), "All", "Many", "Medium", "Few", "Std"),
        rows=rows,
        num_text_columns=len(leading_columns(results, "Evaluation")),
    )


def _means_table(results: Sequence[RunResult]) -> Table:
    def numbers(result: RunResult, evaluation: Evaluation) -> tuple[str, ...]:
        a = evaluation.accuracy
        means = (a.harmonic, a.harmonic_floored, a.geometric, a.class_std, a.worst)
        return (*map(percent, means), result.data.class_names[a.worst_class])

    return Table(
        title="What the mean hides",
        note="Percent, over all classes, so no group rule applies. The harmonic and the geometric "
        "mean are 0 as soon as one class is; “floored” counts at least one right image a class.",
        columns=(
            *leading_columns(results, "Evaluation"),
            *("Harmonic", "Floored", "Geometric", "Class std", "Worst", "Worst class"),
        ),
        rows=rows_by_evaluation(results, numbers),
        num_text_columns=len(leading_columns(results, "Evaluation")),
    )


def rows_by_evaluation(
    results: Sequence[RunResult], numbers: Callable[[RunResult, Evaluation], tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    """A row a run and evaluation, what is to be compared side by side."""
    pairs = [(result, e) for result in results for e in result.evaluations]
    order = list(dict.fromkeys(e.name for _, e in pairs))
    pairs.sort(key=lambda pair: order.index(pair[1].name))
    return tuple(
        (*((result.name,) if len(results) > 1 else ()), e.name, *numbers(result, e))
        for result, e in pairs
    )


def _group(evaluation: Evaluation, rule: str) -> GroupAccuracy | None:
    return next((group for group in evaluation.accuracy.groups if group.rule == rule), None)


def _group_intervals(intervals: Intervals, rule: str) -> GroupStatistics[Interval | None] | None:
    return next((group for group in intervals.groups if group.rule == rule), None)
