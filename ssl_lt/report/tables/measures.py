"""Tables of how sure classifiers are of themselves, and of what a backbone makes of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from ssl_lt.core.groups import GROUP_NAMES, leading_groups
from ssl_lt.evaluate.geometry.centres import NUM_NEIGHBOURS
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.by_evaluation import leading_columns, rows_by_evaluation
from ssl_lt.report.tables.table import PERCENT, Cell, Column, Format, Table, number_columns


def calibration_table(results: Sequence[RunResult]) -> Table:
    """A row a run and evaluation that gives probabilities; the evaluations side by side."""
    rules: dict[str, None] = {}

    def cells(_: RunResult, evaluation: Evaluation) -> tuple[Cell, ...] | None:
        c = evaluation.calibration
        if c is None:
            return None
        group = leading_groups(c.groups)
        rules.update({} if group is None else {group.rule: None})
        errors = (getattr(group, name, None) for name in GROUP_NAMES)
        return (c.error, *errors, c.confidence, evaluation.accuracy.overall)

    rows = rows_by_evaluation(results, cells)
    return Table(
        title="Calibration",
        note="Expected calibration error in percent, 15 bins of equal width: how far confidence "
        "and accuracy lie apart. Sure is the mean confidence, Right the share of test images that "
        f"are: more sure than right is over-confident. Groups {' or '.join(rules) or 'none'}.",
        columns=(
            *leading_columns(results, "Evaluation"),
            *number_columns(PERCENT, "All", "Many", "Medium", "Few", "Sure", "Right"),
        ),
        rows=rows,
    )


def representation_table(results: Sequence[RunResult]) -> Table:
    """Rows a run and backbone: all classes, then each group under its first full rule."""
    rules: dict[str, None] = {}
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        name = (result.name,) if len(results) > 1 else ()
        for representation in result.representations:
            group = leading_groups(representation.groups)
            rules |= {} if group is None else {group.rule: None}
            for part, m in (("all", representation.all), *(group or ())):
                if m is not None:
                    rows.append((*name, representation.name, part, *astuple(m)))
    two = Format(2)
    return Table(
        title="Representation",
        note="Features of norm 1. Align: mean squared distance of two views of a training image. "
        "Uniform: log of the mean Gaussian potential of two test images; lower is more uniform. "
        "Rank: effective rank. Std: 1 on a whole sphere, 0 in one point. Within: mean squared "
        "distance inside a class. Between, Near: mean distance of class centres to all others and "
        f"to the nearest {NUM_NEIGHBOURS}. Groups {' or '.join(rules) or 'none'}.",
        columns=(
            *leading_columns(results, "Features", "Classes"),
            *number_columns(two, "Align", "Uniform"),
            Column("Rank", Format(1)),
            *number_columns(two, "Std", "Within", "Between", "Near"),
        ),
        rows=tuple(rows),
    )
