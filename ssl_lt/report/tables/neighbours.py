"""Nearest training images in words, for where there are no pictures."""

from __future__ import annotations

from ssl_lt.evaluate.picture_records import Neighbours
from ssl_lt.report.records.class_order import group_names
from ssl_lt.report.records.results import DataDescription
from ssl_lt.report.tables.table import Table

RIGHT, WRONG = "✓", "✗"


def group_name(data: DataDescription, c: int) -> str:
    """Of a class, by the first rule; "" where it has none."""
    return group_names(data).get(c, "")


def neighbours_table(data: DataDescription, found: Neighbours) -> Table:
    """A row a test image: its class, and those of its nearest training images."""
    longest = max((len(strip.nearest) for strip in found.strips), default=0)
    rows = []
    for strip in found.strips:
        c = strip.query.class_number
        nearest = [
            f"{RIGHT if image.class_number == c else WRONG} {data.class_names[image.class_number]}"
            for image in strip.nearest
        ]
        nearest += [""] * (longest - len(nearest))
        rows.append((data.class_names[c], group_name(data, c) or "n/a", *nearest))
    return Table(
        title="Nearest training images",
        note=f"{found.note} {RIGHT} is of the same class, {WRONG} is not.",
        columns=("Test image of", "Group", *(str(i + 1) for i in range(longest))),
        rows=tuple(rows),
        num_text_columns=2 + longest,
    )
