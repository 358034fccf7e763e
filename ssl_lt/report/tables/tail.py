"""How well scores find the images of rare classes."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.evaluate.tail.findings import Coverage, Finding
from ssl_lt.report.tables.table import PERCENT, Column, Format, Table, number_columns, text_columns


def finding_table(findings: Sequence[Finding], *, top: int) -> Table:
    """A row a score and group rule.

    Args:
        findings: of all scores.
        top: the k of the precision.
    """
    return Table(
        title="How well each score finds rare classes",
        note="AUC: probability that an image of a few class has a higher score than one of a many "
        f"class (0.500: chance). Among the first {top:,}, and among all: percent of images of few "
        "classes.",
        columns=(
            *text_columns("Score", "Groups"),
            Column("AUC", Format(3)),
            *number_columns(PERCENT, f"First {top:,}", "All"),
        ),
        rows=tuple(
            (f.score, f.rule.split(" (")[0], f.auc, f.precision, f.base_rate) for f in findings
        ),
    )


def coverage_table(coverage: Coverage, *, num_classes: int) -> Table:
    """Classes that the images to label first have, and those of random images.

    Args:
        coverage: of the chosen images.
        num_classes: C.
    """
    return Table(
        title="Classes covered",
        note=f"Classes that the {coverage.budget:,} images to label first have, of "
        f"{num_classes:,}, and as many random images: mean of ten draws, with its 95% interval.",
        columns=(Column("Images"), *number_columns(Format(1), "Classes", "Interval")),
        rows=(
            ("chosen", coverage.num_covered, "—"),
            ("random", coverage.random_mean, coverage.random_interval),
        ),
    )
