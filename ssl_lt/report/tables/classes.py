"""Tables of single classes: how well each is recognised, and what it is taken for."""

from __future__ import annotations

import numpy as np

from ssl_lt.core.groups import leading_rule
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.class_order import group_names
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.table import COUNT, PERCENT, Column, Table, number_columns, text_columns


def class_table(result: RunResult) -> Table:
    """A row a class, the most frequent first, with the accuracy under every evaluation."""
    data = result.data
    group = group_names(data)
    order = sorted(range(len(data.class_names)), key=lambda c: (-data.counts_per_class[c], c))
    return Table(
        title="Every class",
        note=f"Accuracy in percent. Groups {leading_rule(data.groups)}.",
        columns=(
            *text_columns("Class", "Group"),
            Column("Training images", COUNT),
            *number_columns(PERCENT, *(e.name for e in result.evaluations)),
        ),
        rows=tuple(
            (
                data.class_names[c],
                group.get(c),
                data.counts_per_class[c],
                *(e.accuracy.per_class[c] for e in result.evaluations),
            )
            for c in order
        ),
        ends=100,
    )


def confusion_table(result: RunResult, evaluation: Evaluation, *, limit: int = 20) -> Table | None:
    """The pairs of classes most often taken for one another; None where nothing was kept."""
    if evaluation.confusion is None:
        return None
    true, guess, images = evaluation.confusion.arrays()
    wrong = np.flatnonzero(true != guess)
    if not wrong.size:
        return None
    most = wrong[np.argsort(-images[wrong], kind="stable")[:limit]]
    names = result.data.class_names
    tested = evaluation.accuracy.num_test_per_class
    return Table(
        title="Most frequent confusions",
        note=f"Test images, {evaluation.name}. All classes, so no group rule applies.",
        columns=(*text_columns("Class", "Taken for"), *number_columns(COUNT, "Images", "Of")),
        rows=tuple(
            (names[true[i]], names[guess[i]], int(images[i]), tested[true[i]]) for i in most
        ),
    )
