"""The map of test features, coloured by group and by class."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.groups import GROUP_NAMES, leading_rule
from ssl_lt.evaluate.picture_records import MAP_SIDE, FeatureMap
from ssl_lt.report.figures.figure import (
    NUM_COLOURS,
    PAPER,
    RULE,
    SERIES,
    SOFT,
    Figure,
    drawing,
    shortened,
    style,
    to_svg,
)
from ssl_lt.report.records.class_order import by_frequency, group_names
from ssl_lt.report.records.results import DataDescription

_LETTER = (18, 36)  # width and height of one on the map, about
_MOST_NAMED, _NAMED_OF_MANY = 20, 12
_GROUP_COLOURS, _GROUP_MARKERS, _GROUP_SHAPES = (1, 3, 2), "osx", ("dots", "squares", "crosses")

Floats = NDArray[np.float64]


def group_map_figure(data: DataDescription, found: FeatureMap, *, title: str) -> Figure:
    """One colour and one shape a group, the rare classes on top."""
    points, group = _points(found), group_names(data)
    groups = np.array([group.get(c, "") for c in found.classes])
    with style():
        fig, axes = _map()
        _draw(axes, points[groups == ""], SOFT, "o")
        for name, colour, marker in zip(GROUP_NAMES, _GROUP_COLOURS, _GROUP_MARKERS, strict=True):
            _draw(axes, points[groups == name], SERIES[colour - 1], marker)
        svg = to_svg(fig, "Map of test features by group")
    legend = tuple(f"{g} ({shape})" for g, shape in zip(GROUP_NAMES, _GROUP_SHAPES, strict=True))
    note = f"{found.note} Groups {leading_rule(data.groups)}."
    return Figure(title, note, svg, legend, _GROUP_COLOURS)


def class_map_figure(data: DataDescription, found: FeatureMap, *, title: str) -> Figure:
    """One colour a class; the classes whose points lie closest together are named."""
    points, classes = _points(found), np.asarray(found.classes)
    order, _ = by_frequency(data)
    shown = set(found.classes)
    members = {c: points[classes == c] for c in order if c in shown}
    names = _names(data, members)
    few = len(order) <= NUM_COLOURS
    with style():
        fig, axes = _map()
        for i, c in enumerate(order):
            if c in shown:
                _draw(axes, members[c], SERIES[i] if few else _hue(i), "o")
        paper = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 1}
        for name in names:
            axes.text(
                name.x, name.y, name.text, ha="center", va="center", weight="bold", bbox=paper
            )
        svg = to_svg(fig, "Map of test features by class")
    named = "each" if len(names) == len(order) else "those that lie closest together"
    return Figure(
        title,
        f"One colour a class; names stand at the middle of {named}. Distances between far groups "
        "of points mean little.",
        svg,
        tuple(data.class_names[c] for c in order) if few else (),
    )


def _points(found: FeatureMap) -> Floats:
    """(N, 2) on the map."""
    return np.stack([found.x, found.y], axis=1).astype(np.float64)


def _map() -> tuple[Any, Any]:
    fig = drawing(4.8, 4.8)
    axes = fig.subplots()
    margin = MAP_SIDE * 0.03
    limits = (-margin, MAP_SIDE + margin)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=RULE)
    return fig, axes


def _draw(axes: Any, points: Floats, colour: str, marker: str) -> None:
    width = 1.4 if marker == "x" else 0
    axes.plot(*points.T, marker, color=colour, markersize=4, alpha=0.7, markeredgewidth=width)


def _hue(i: int) -> str:
    """Hues a golden angle apart, which soon differ."""
    rgb = colorsys.hls_to_rgb(137.508 * i % 360 / 360, (0.48, 0.58, 0.40)[i % 3], 0.62)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


@dataclass(frozen=True)
class _Name:
    """Text centred at a place of the map, and half of its width."""

    text: str
    x: float
    y: float
    half: float


def _names(data: DataDescription, members: dict[int, Floats]) -> list[_Name]:
    """Names of the tightest classes, none over another."""
    middles = {c: np.median(points, axis=0) for c, points in members.items() if len(points) >= 3}
    spread = {c: np.median(np.abs(members[c] - m).sum(axis=1)) for c, m in middles.items()}
    most = _MOST_NAMED if len(data.class_names) <= _MOST_NAMED else _NAMED_OF_MANY
    width, height = _LETTER
    names: list[_Name] = []
    for c in sorted(middles, key=spread.__getitem__):
        text = shortened(data.class_names[c], 18)
        half = width * len(text) / 2
        x = float(np.clip(middles[c][0], half, MAP_SIDE - half))
        y = float(np.clip(middles[c][1], height, MAP_SIDE - height))
        if all(abs(y - n.y) > height or abs(x - n.x) > half + n.half for n in names):
            names.append(_Name(text, x, y, half))
    return names[:most]
