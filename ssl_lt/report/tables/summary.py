"""The tables a report leads with: a row a run and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.core.groups import GROUP_NAMES, leading_rule
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.by_evaluation import leading_columns, rows_by_evaluation
from ssl_lt.report.tables.intervals import intervals_of, resampled
from ssl_lt.report.tables.measures import calibration_table, representation_table
from ssl_lt.report.tables.table import PERCENT, Cell, Column, Table, number_columns, plus_minus

_NAMES = (*GROUP_NAMES, "std")


def summary_tables(results: Sequence[RunResult]) -> tuple[Table, ...]:
    """Accuracy under each group rule, what the mean hides, calibration, and the representation.

    The rule that leaves no group empty comes first. The last two are left out where no run has
    numbers for them.
    """
    rules: dict[str, None] = {}
    for result in results:
        for evaluation in result.evaluations:
            rules |= dict.fromkeys(group.rule for group in evaluation.accuracy.groups)
    lead = _lead(results)
    ordered = sorted(rules, key=lambda rule: rule != lead)
    by_rule = (_group_table(results, rule, first=i == 0) for i, rule in enumerate(ordered))
    measured = (calibration_table(results), representation_table(results))
    return (*by_rule, _means_table(results), *(table for table in measured if table.rows))


def leading_table(results: Sequence[RunResult]) -> tuple[Table, ...]:
    """The accuracies alone, under the first rule that leaves no group empty."""
    return (_group_table(results, _lead(results), first=True),)


def _lead(results: Sequence[RunResult]) -> str:
    rules = (leading_rule(e.accuracy.groups) for result in results for e in result.evaluations)
    return next(rules, "none")


def _group_table(results: Sequence[RunResult], rule: str, *, first: bool) -> Table:
    sizes: dict[str, None] = {}

    def cells(result: RunResult, evaluation: Evaluation) -> tuple[Cell, ...]:
        intervals = intervals_of(result, evaluation)
        balanced = plus_minus(evaluation.accuracy.balanced, intervals.balanced)
        found = next((g for g in evaluation.accuracy.groups if g.rule == rule), None)
        within = next((g for g in intervals.groups if g.rule == rule), None)
        if found is not None:
            sizes[" / ".join(map(str, found.num_classes))] = None
        pairs = ((getattr(found, name, None), getattr(within, name, None)) for name in _NAMES)
        return (balanced, *(plus_minus(*pair) for pair in pairs))

    rows = rows_by_evaluation(results, cells)
    return Table(
        title="Accuracy" if first else f"Accuracy, groups {rule.split(' (')[0]}",
        note=f"Percent ± half of the 95 % interval over {resampled(results)}, which says nothing "
        f"of other training seeds; All is the mean over classes. Groups {rule}: "
        f"{' or '.join(sizes) or 'no'} classes. Std is over the groups.",
        columns=(
            *leading_columns(results, "Evaluation"),
            *number_columns(PERCENT, "All", "Many", "Medium", "Few", "Std"),
        ),
        rows=rows,
    )


def _means_table(results: Sequence[RunResult]) -> Table:
    def cells(result: RunResult, evaluation: Evaluation) -> tuple[Cell, ...]:
        a = evaluation.accuracy
        means = (a.harmonic, a.harmonic_floored, a.geometric, a.class_std, a.worst)
        return (*means, result.data.class_names[a.worst_class])

    return Table(
        title="What the mean hides",
        note="Percent, over all classes, so no group rule applies. The harmonic and the geometric "
        "mean are 0 as soon as one class is; “floored” counts at least one right image a class.",
        columns=(
            *leading_columns(results, "Evaluation"),
            *number_columns(PERCENT, "Harmonic", "Floored", "Geometric", "Class std", "Worst"),
            Column("Worst class"),
        ),
        rows=rows_by_evaluation(results, cells),
    )
