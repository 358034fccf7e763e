"""How well a list of rare samples finds the rare classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ssl_lt.evaluate.tail import TailScore
from ssl_lt.report.tables.table import (
    PERCENT,
    Cell,
    Column,
    Format,
    Table,
    number_columns,
    text_columns,
)

_AUC = Format(3)
_MAX_EPOCHS = 13


def finding_table(
    score: str, findings: Sequence[TailScore], correlation: float | None, *, num_known: int
) -> Table:
    """A row a group rule: AUC, and precision against the base rate."""
    at = tuple(k for k, _ in findings[0].precision_at) if findings else ()
    spearman = "not known" if correlation is None else Format(3, signed=True)(correlation)
    return Table(
        title="How well the list finds rare classes",
        note=f"Score: {score}, {num_known:,} samples with one. AUC of few over many (0.500: "
        "chance). Base rate and precision at k: percent of few among all, and among the first k. "
        f"Spearman's correlation with the number of images of the class: {spearman} (rare first: "
        "negative).",
        columns=(
            *(Column("Group rule"), Column("AUC", _AUC)),
            *number_columns(PERCENT, "Base rate", *(f"At {k:,}" for k in at)),
        ),
        rows=tuple(
            (f.rule, f.auc, f.base_rate, *(share for _, share in f.precision_at)) for f in findings
        ),
    )


def epoch_table(
    aucs: Mapping[int, Mapping[str, Sequence[float | None]]], rules: Sequence[str]
) -> Table:
    """AUC of few over many after some of the epochs, the last among them.

    Args:
        aucs: epoch -> score -> AUC under each rule.
        rules: of the groups.
    """
    epochs = sorted(aucs)
    places = np.unique(np.linspace(0, len(epochs) - 1, min(_MAX_EPOCHS, len(epochs))).round())
    scores = list(dict.fromkeys(name for epoch in epochs for name in aucs[epoch]))
    shown = [epochs[int(place)] for place in places]
    unknown = [None] * len(rules)
    rows: list[tuple[Cell, ...]] = [
        (
            f"{epoch}",
            rule.split(" (")[0],
            *(aucs[epoch].get(s, unknown)[i] for s in scores),
        )
        for epoch in shown
        for i, rule in enumerate(rules)
    ]
    return Table(
        title="AUC by epoch",
        note="Few over many; n/a where a group is empty or the score was not known yet. "
        f"{len(shown)} of {len(epochs)} epochs; tail.json has all.",
        columns=(*text_columns("Epoch", "Groups"), *number_columns(_AUC, *scores)),
        rows=tuple(rows),
    )
