"""Tables of how sure classifiers are of themselves, and of what a backbone makes of the classes."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.core.groups import GROUP_NAMES, leading_groups
from ssl_lt.evaluate.geometry.representation import NUM_NEIGHBOURS, Measures
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.table import Table, leading_columns, percent


def calibration_table(results: Sequence[RunResult]) -> Table:
    """A row a run and evaluation that gives probabilities; the evaluations side by side."""
    rules: dict[str, None] = {}
    found: dict[str, list[tuple[str, ...]]] = {}
    for result in results:
        for evaluation in result.evaluations:
            c = evaluation.calibration
            rows = found.setdefault(evaluation.name, [])
            if c is None:
                continue
            group = leading_groups(c.groups)
            rules |= {} if group is None else {group.rule: None}
            errors = (c.error, *(getattr(group, name, None) for name in GROUP_NAMES))
            sure = (c.confidence, evaluation.accuracy.overall)
            name = (result.name,) if len(results) > 1 else ()
            rows.append((*name, evaluation.name, *map(percent, (*errors, *sure))))
    leading = leading_columns(results, "Evaluation")
    return Table(
        title="Calibration",
        note="Expected calibration error in percent, 15 bins of equal width: how far confidence "
        "and accuracy lie apart. Sure is the mean confidence, Right the share of test images that "
        f"are: more sure than right is over-confident. Groups {_or(rules)}.",
        columns=(*leading, "All", "Many", "Medium", "Few", "Sure", "Right"),
        rows=tuple(row for rows in found.values() for row in rows),
        num_text_columns=len(leading),
    )


def representation_table(results: Sequence[RunResult]) -> Table:
    """Rows a run and backbone: all classes, then each group under its first full rule."""
    rules: dict[str, None] = {}
    rows = []
    for result in results:
        for representation in result.representations:
            group = leading_groups(representation.groups)
            rules |= {} if group is None else {group.rule: None}
            parts: list[tuple[str, Measures | None]] = [("all", representation.all)]
            parts += [(name, getattr(group, name, None)) for name in GROUP_NAMES]
            name = (result.name,) if len(results) > 1 else ()
            rows += [
                (*name, representation.name, part, *_numbers(measures))
                for part, measures in parts
                if measures is not None
            ]
    leading = (*leading_columns(results, "Features"), "Classes")
    return Table(
        title="Representation",
        note="Features of norm 1. Align: mean squared distance of two views of a training image. "
        "Uniform: log of the mean Gaussian potential of two test images; lower is more uniform. "
        "Rank: effective rank. Std: 1 on a whole sphere, 0 in one point. Within: mean squared "
        "distance inside a class. Between, Near: mean distance of class centres to all others and "
        f"to the nearest {NUM_NEIGHBOURS}. Groups {_or(rules)}.",
        columns=(*leading, "Align", "Uniform", "Rank", "Std", "Within", "Between", "Near"),
        rows=tuple(rows),
        num_text_columns=len(leading),
    )


def _numbers(m: Measures) -> tuple[str, ...]:
    rank = "n/a" if m.effective_rank is None else f"{m.effective_rank:.1f}"
    within = (m.within_class_spread, m.between_class_uniformity, m.neighbourhood_uniformity)
    return (
        *map(_number, (m.alignment, m.uniformity)),
        rank,
        *map(_number, (m.feature_std, *within)),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    # Plus 0.0: what rounds to nothing has no sign.
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _or(rules: dict[str, None]) -> str:
    return " or ".join(rules) or "none"
