"""Nearest training images in words, for where there are no pictures."""

from __future__ import annotations

from ssl_lt.evaluate.picture_records import NeighbourStrips
from ssl_lt.report.records.class_order import group_names
from ssl_lt.report.records.results import DataDescription
from ssl_lt.report.tables.table import Table, text_columns

RIGHT, WRONG = "✓", "✗"


def neighbours_table(data: DataDescription, found: NeighbourStrips) -> Table:
    """A row a test image: its class, and those of its nearest training images."""
    names = data.class_names
    longest = max((len(strip.nearest) for strip in found.strips), default=0)
    rows = []
    for strip in found.strips:
        c = strip.query.class_number
        nearest = [
            f"{RIGHT if image.class_number == c else WRONG} {names[image.class_number]}"
            for image in strip.nearest
        ]
        nearest += [""] * (longest - len(nearest))
        rows.append((names[c], group_names(data).get(c), *nearest))
    return Table(
        title="Nearest training images",
        note=f"{found.note} {RIGHT} is of the same class, {WRONG} is not.",
        columns=text_columns("Test image of", "Group", *(str(i + 1) for i in range(longest))),
        rows=tuple(rows),
    )
