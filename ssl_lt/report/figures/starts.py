"""What fine-tuning comes to from several starts."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.report.figures.figure import (
    MARKERS,
    NUM_COLOURS,
    SERIES,
    Figure,
    drawing,
    style,
    to_svg,
)
from ssl_lt.report.tables.seeds import GROUPED, SeedRow


def starts_figure(rows: Sequence[SeedRow]) -> Figure:
    """Accuracy over all classes and in each group, with its interval, one colour a start.

    Args:
        rows: of one evaluation; the first of many are drawn.
    """
    rows, starts = rows[:NUM_COLOURS], tuple(row.run for row in rows[:NUM_COLOURS])
    with style():
        fig = drawing(4.8, 2.8)
        axes = fig.subplots()
        for i, row in enumerate(rows):
            shift = 0.6 * ((i + 0.5) / len(rows) - 0.5)
            for place, key in enumerate(GROUPED):
                number, interval = row.columns[key], row.intervals[key]
                if number is None:
                    continue
                if interval is not None:
                    axes.vlines(place + shift, interval.low, interval.high, color=SERIES[i])
                axes.plot([place + shift], [number.mean], MARKERS[i], color=SERIES[i], markersize=5)
        axes.set_xticks(range(len(GROUPED)), [key.capitalize() for key in GROUPED])
        axes.set(ylabel="accuracy, %", xlim=(-0.5, len(GROUPED) - 0.5))
        svg = to_svg(fig, "Accuracy by start, over all classes and in each group")
    note = "Mean over the seeds, with its 95 % interval over test images."
    return Figure("Accuracy by start", note, svg, starts)
