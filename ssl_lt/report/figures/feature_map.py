"""The map of test features, coloured by group and by class."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from ssl_lt.core.groups import GROUP_NAMES
from ssl_lt.evaluate.picture_records import MAP_SIDE, FeatureMap
from ssl_lt.report.figures.plots import Figure
from ssl_lt.report.figures.svg import NUM_COLOURS, drawing, shortened, words
from ssl_lt.report.records.class_order import by_frequency, first_rule, group_names
from ssl_lt.report.records.results import DataDescription

_MARGIN = 30
_SIZE = 29.0  # of names
_MOST_NAMED = 20
_NAMED_OF_MANY = 12
_SHAPES = ("dots", "squares", "crosses")

Point = tuple[int, int]


def group_map_figure(data: DataDescription, found: FeatureMap, *, title: str) -> Figure:
    """One colour and one shape a group, the rare classes on top."""
    place = {c: GROUP_NAMES.index(name) for c, name in group_names(data).items()}
    points: list[list[Point]] = [[], [], [], []]
    for point, c in zip(_points(found), found.classes, strict=True):
        points[place.get(c, 3)].append(point)
    parts = [
        _dots(points[3], colour="var(--soft)", cap="round"),
        _dots(points[0], colour="var(--series-1)", cap="round"),
        _dots(points[1], colour="var(--series-3)", cap="square"),
        _crosses(points[2], colour="var(--series-2)"),
    ]
    shown = zip(GROUP_NAMES, _SHAPES, (1, 3, 2), strict=True)
    return Figure(
        title,
        f"{found.note} Groups {first_rule(data)}.",
        _map("Map of test features by group", parts),
        tuple(f"{name} ({shape})" for name, shape, _ in shown),
        (1, 3, 2),
    )


def class_map_figure(data: DataDescription, found: FeatureMap, *, title: str) -> Figure:
    """One colour a class; the classes whose points lie closest together are named."""
    order, _ = by_frequency(data)
    members: dict[int, list[Point]] = {c: [] for c in order}
    for point, c in zip(_points(found), found.classes, strict=True):
        members[c].append(point)
    parts = [
        _dots(members[c], colour=_colour(i, len(order)), cap="round") for i, c in enumerate(order)
    ]
    names, num_named = _names(data, members)
    few = len(order) <= NUM_COLOURS
    named = "each" if num_named == len(order) else "those that lie closest together"
    return Figure(
        title,
        f"One colour a class; names stand at the middle of {named}. Distances between far groups "
        "of points mean little.",
        _map("Map of test features by class", [*parts, *names]),
        tuple(data.class_names[c] for c in order) if few else (),
    )


def _points(found: FeatureMap) -> list[Point]:
    """In the drawing, whose y goes down."""
    return [(x + _MARGIN, MAP_SIDE - y + _MARGIN) for x, y in zip(found.x, found.y, strict=True)]


def _map(label: str, parts: list[Markup]) -> Markup:
    side = MAP_SIDE + 2 * _MARGIN
    frame = Markup(
        '<rect x="1" y="1" width="{0}" height="{0}" fill="none" stroke="var(--rule)" '
        'stroke-width="2"/>'
    ).format(side - 2)
    return drawing(label, side, side, [frame, *parts])


def _dots(points: Sequence[Point], *, colour: str, cap: str) -> Markup:
    """Lines of next to no length, of which the ends are seen: 10 bytes a point."""
    path = "".join(f"M{x} {y}h.1" for x, y in points)
    return Markup(
        # As style: the style sheet in matplotlib's drawings reaches the whole page.
        '<path d="{}" fill="none" stroke="{}" stroke-width="{}" stroke-opacity="0.6" '
        'style="stroke-linecap:{}"/>'
    ).format(path, colour, 13 if cap == "round" else 11, cap)


def _crosses(points: Sequence[Point], *, colour: str) -> Markup:
    path = "".join(f"M{x - 8} {y}h16m-8-8v16" for x, y in points)
    return Markup(
        '<path d="{}" fill="none" stroke="{}" stroke-width="4.5" stroke-opacity="0.8"/>'
    ).format(path, colour)


def _colour(i: int, num_classes: int) -> str:
    """The page's own while they last; then hues a golden angle apart, which soon differ."""
    if num_classes <= NUM_COLOURS:
        return f"var(--series-{i + 1})"
    return f"hsl({137.508 * i % 360:.0f} 62% {(48, 58, 40)[i % 3]}%)"


def _names(data: DataDescription, members: dict[int, list[Point]]) -> tuple[list[Markup], int]:
    """Names of the tightest classes, none over another, and how many there are."""
    middles = {
        c: (statistics.median(x for x, _ in points), statistics.median(y for _, y in points))
        for c, points in members.items()
        if len(points) >= 3
    }

    def width(c: int) -> float:
        x, y = middles[c]
        return statistics.median(abs(px - x) + abs(py - y) for px, py in members[c])

    limit = _MOST_NAMED if len(members) <= _MOST_NAMED else _NAMED_OF_MANY
    parts: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    for c in sorted(middles, key=width):
        text = shortened(data.class_names[c], 18)
        half = 0.3 * _SIZE * len(text)
        x = min(max(middles[c][0], half + 4), MAP_SIDE + 2 * _MARGIN - half - 4)
        y = min(max(middles[c][1], _SIZE), MAP_SIDE + _MARGIN)
        if len(taken) == limit:
            break
        if all(abs(y - b) > _SIZE or abs(x - a) > half + other for a, b, other in taken):
            taken.append((x, y, half))
            halo = (
                'text-anchor="middle" paint-order="stroke" stroke="var(--paper)" stroke-width="6"'
            )
            parts.append(words(x, y + 0.35 * _SIZE, text, size=_SIZE, more=halo))
    return parts, len(taken)
