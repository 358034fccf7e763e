"""Profiles, counts, differences and curves: what a page plots over classes or steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_lt.core.groups import Groups, leading_rule
from ssl_lt.report.figures.figure import (
    INK,
    MARKERS,
    SERIES,
    SHADE,
    Figure,
    drawing,
    style,
    to_svg,
)
from ssl_lt.report.records.class_order import by_frequency, group_spans
from ssl_lt.report.records.curves import Curve
from ssl_lt.report.records.results import DataDescription
from ssl_lt.report.tables.comparison import Comparison

_MOST_PLACES = 500  # of more classes, neighbouring ones share a place
_WHOLE = "{x:,.0f}"  # what a logarithmic axis says, without powers of ten


@dataclass(frozen=True)
class Series:
    """Accuracy a class (fractions, None where untested) under one evaluation or of one run."""

    name: str
    per_class: tuple[float | None, ...]


def profile_figure(
    data: DataDescription, series: Sequence[Series], *, subject: str, colours: Sequence[int] = ()
) -> Figure:
    """Accuracy of each class, the most frequent at the left; above, how many images it has.

    Args:
        data: gives the order of the classes and their groups, by the leading rule.
        series: at most a handful.
        subject: what the accuracies are of, a sentence for the note.
        colours: number of each series' colour, from 1; none: 1, 2 ...
    """
    colours = tuple(colours) or tuple(range(1, len(series) + 1))
    order, groups = by_frequency(data)
    with style():
        fig = drawing(4.8, 5.6)
        top, main = fig.subplots(2, 1, sharex=True, height_ratios=(1, 4))
        counts = [max(data.counts_per_class[c], 0.5) for c in order]
        edges = np.arange(len(order) + 1) - 0.5
        top.stairs(counts, edges, baseline=0.5, fill=True, color=SHADE, linewidth=0)
        top.stairs(counts, edges, baseline=None, color=INK, linewidth=1)
        top.set(yscale="log", ylabel="training\nimages", ylim=(0.8, max(counts) * 1.6))
        top.minorticks_off()
        top.yaxis.set_major_formatter(_WHOLE)
        _class_axis(main, groups, order)
        places, block = _places(len(order))
        size = min(6.0, max(2.0, 80 / len(places) ** 0.65))
        for i, one in enumerate(series):
            values = [one.per_class[c] for c in order]
            pooled = zip(places, _means(values, block), strict=True)
            drawn = [(x, 100 * v) for x, v in pooled if v is not None]
            colour, marker = SERIES[colours[i] - 1], MARKERS[colours[i] - 1]
            x, y = zip(*drawn, strict=True) if drawn else ((), ())
            main.plot(
                x, y, marker, color=colour, markersize=size, alpha=0.55, markeredgewidth=0,
                clip_on=False,
            )  # fmt: skip
            for _, start, stop in group_spans(groups, order):
                known = [v for v in values[start:stop] if v is not None]
                if known:
                    mean = 100 * sum(known) / len(known)
                    main.plot(
                        [start - 0.4, stop - 0.6], [mean, mean], color=colour, linewidth=2.2,
                        clip_on=False,
                    )  # fmt: skip
        main.set(ylim=(0, 100), ylabel="accuracy, %")
        svg = to_svg(fig, "Accuracy of every class, most frequent first")
    rule = leading_rule(data.groups)
    points = "classes" if block == 1 else f"means of {block} neighbouring classes"
    note = f"{subject} Points are {points}, lines the means of the groups {rule}.".strip()
    names = tuple(one.name for one in series)
    return Figure("Accuracy by class frequency", note, svg, names, colours)


def counts_figure(data: DataDescription, test_counts: Sequence[int]) -> Figure:
    """Images of each class on a logarithmic axis, the most frequent class at the left.

    Args:
        data: the training images.
        test_counts: (C,) test images; empty without a test part.
    """
    order, groups = by_frequency(data)
    counts = [data.counts_per_class[c] for c in order]
    with style():
        fig = drawing(4.8, 4.2)
        axes = fig.subplots()
        most = max([*counts, *test_counts, 1])
        axes.set(yscale="log", ylim=(0.7, most * 1.6), ylabel="images")
        axes.yaxis.set_major_formatter(_WHOLE)
        _class_axis(axes, groups, order)
        places, block = _places(len(order))
        if block == 1:
            axes.bar(range(len(order)), counts, width=0.85, color=SERIES[0], linewidth=0)
        else:
            edges = np.arange(len(order) + 1) - 0.5
            axes.stairs(counts, edges, baseline=0.5, fill=True, color=SERIES[0], linewidth=0)
        if test_counts:
            pooled = zip(places, _means([test_counts[c] for c in order], block), strict=True)
            drawn = [(x, n) for x, n in pooled if n]
            size = min(4.0, max(1.5, 80 / len(places) ** 0.75))
            axes.plot(*zip(*drawn, strict=True), "o", color=SERIES[1], markersize=size)
        svg = to_svg(fig, "Images of every class, most frequent first")
    legend = ("training", "test") if test_counts else ()
    note = f"Logarithmic. Groups {leading_rule(data.groups)}."
    if test_counts and block > 1:
        note += f" A point is the mean of {block} neighbouring classes."
    return Figure("Images of each class", note, svg, legend)


def difference_figure(comparison: Comparison) -> Figure:
    """Percentage points each class gained or lost, the most frequent class at the left."""
    order, groups = by_frequency(comparison.run.data)
    with style():
        fig = drawing(4.8, 2.8)
        axes = fig.subplots()
        places, block = _places(len(order))
        means = _means([comparison.differences[c] for c in order], block)
        values = [100 * (mean or 0.0) for mean in means]
        reach = max(1.0, *map(abs, values)) * 1.2
        axes.set(ylim=(-reach, reach), ylabel="difference, points")
        _class_axis(axes, groups, order)
        colours = [SERIES[0] if value > 0 else SERIES[1] for value in values]
        axes.bar(places, values, width=0.85 * block, color=colours)
        axes.axhline(0, color=INK, linewidth=0.8)
        svg = to_svg(fig, "Difference in accuracy of every class, most frequent first")
    note = f"Groups {leading_rule(comparison.run.data.groups)}."
    if block > 1:
        note += f" A bar is the mean of {block} neighbouring classes."
    return Figure("Who gained, who lost", note, svg, ("gained", "lost"))


def curve_figure(
    title: str,
    note: str,
    curves: Sequence[tuple[str, Curve]],
    *,
    label: str,
    scale: float,
    colours: Sequence[int] = (),
) -> Figure:
    """A logged quantity against the step, one line a run.

    Args:
        title: a heading.
        note: how to read it.
        curves: name of the run and its curve, at most a handful.
        label: of the values times `scale`.
        scale: of the values.
        colours: number of each run's colour, from 1; none: 1, 2 ...
    """
    colours = tuple(colours) or tuple(range(1, len(curves) + 1))
    with style():
        fig = drawing(4.8, 1.95)
        axes = fig.subplots()
        for i, (_, curve) in enumerate(curves):
            values = [scale * value for value in curve.values]
            # A single measurement would be an invisible line.
            marker = MARKERS[colours[i] - 1] if len(values) <= 40 else ""
            colour = SERIES[colours[i] - 1]
            axes.plot(curve.steps, values, marker=marker, color=colour, markersize=3.5)
        axes.set(xlabel="step", ylabel=label)
        _whole_numbers(axes.xaxis, shift=0)
        svg = to_svg(fig, title)
    return Figure(title, note, svg, tuple(name for name, _ in curves), colours)


def _places(num_classes: int) -> tuple[list[float], int]:
    """Where on the axis something is drawn, and how many neighbouring classes share a place."""
    block = -(-num_classes // _MOST_PLACES)
    starts = range(0, num_classes, block)
    return [(start + min(start + block, num_classes) - 1) / 2 for start in starts], block


def _means(values: Sequence[float | None], block: int) -> list[float | None]:
    """The mean of what is known in each `block` of neighbouring values."""
    found: list[float | None] = []
    for start in range(0, len(values), block):
        known = [value for value in values[start : start + block] if value is not None]
        found.append(sum(known) / len(known) if known else None)
    return found


def _class_axis(axes: Any, groups: Groups | None, order: Sequence[int]) -> None:
    """Classes from 1, a band behind every other group, their names above what is drawn."""
    axes.set(xlabel="classes, most frequent first", xlim=(-0.8, len(order) - 0.2))
    _whole_numbers(axes.xaxis, shift=1)
    spans = [] if groups is None else group_spans(groups, order)
    for i, (name, start, stop) in enumerate(spans):
        if stop == start:
            continue
        if i % 2 == 0:
            axes.axvspan(start - 0.5, stop - 0.5, color=SHADE, linewidth=0, zorder=0)
        axes.annotate(
            name,
            ((start + stop - 1) / 2, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 5),  # a marker at 100 % reaches as far
            textcoords="offset points",
            ha="center",
            va="bottom",
            annotation_clip=False,
        )


def _whole_numbers(axis: Any, *, shift: int) -> None:
    """Few whole-numbered ticks; `shift` is added to what they say."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axis.set_major_formatter(lambda x, _: f"{int(x) + shift:,}")
