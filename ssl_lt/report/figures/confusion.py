"""Confusion matrices as pictures: classes by group and frequency, a cell a pixel.

Cells are shares of the images of their row, below 0 for what is good: what is right in a matrix,
what got better in the difference of two.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.figures.plots import Figure
from ssl_lt.report.figures.svg import drawing, shortened, words
from ssl_lt.report.records.class_order import by_frequency, first_rule, group_spans
from ssl_lt.report.records.results import DataDescription
from ssl_lt.report.tables.comparison import Comparison

# Half transparent, so that they are seen on light and on dark paper alike.
_GOOD, _BAD = (38, 140, 208), (232, 108, 48)
_LEVELS = 127  # of each colour
_SIDE = 360.0  # of the matrix in the drawing
_MOST_NAMED, _MOST_NUMBERED, _MOST_CELLS = 20, 12, 250


def confusion_figure(data: DataDescription, evaluation: Evaluation, *, title: str) -> Figure | None:
    """True classes down, predicted classes across, both by group and from frequent to rare.

    Up to 20 classes are named, up to 12 have their percentages written into the cells. Of more
    than 250 classes, neighbouring ones share a cell.

    Args:
        data: gives the order of the classes and their groups, by the first rule.
        evaluation: whose confusion matrix is drawn.
        title: a heading.

    Returns:
        None where no confusion matrix was kept.
    """
    if evaluation.confusion is None:
        return None
    shares = _shares(data, evaluation.confusion)
    numbers = [[f"{100 * abs(share):.0f}" for share in row] for row in shares]
    note = (
        f"{evaluation.name}. Rows are true classes, columns predicted ones, both from frequent to "
        "rare; a row adds up to 100 %. The diagonal is what is right."
    )
    svg = _matrix(
        data, shares, numbers, label=f"Confusion matrix, {evaluation.name}", key=("right", "wrong")
    )
    return Figure(title, f"{note} {_more(data, shares)}", svg)


def confusion_difference_figure(comparison: Comparison) -> Figure | None:
    """What the second run takes for what more often, or less, than the first.

    Returns:
        None where one of the two kept no confusion matrix.
    """
    before, after = comparison.before.confusion, comparison.after.confusion
    if before is None or after is None:
        return None
    data = comparison.run.data
    shares = _shares(data, after) - _shares(data, before)
    points = 100 * shares * (1 - 2 * np.eye(len(shares)))  # on the diagonal, below 0 is more
    numbers = [[f"{value:+.0f}".replace("-", "−") for value in row] for row in points]
    note = (
        f"{comparison.run.name} minus {comparison.baseline.name}, {comparison.after.name}. Rows "
        "are true classes, columns predicted ones. Better is more on the diagonal and less beside "
        "it; numbers are percentage points."
    )
    svg = _matrix(
        data, shares, numbers, label="Difference of confusion matrices", key=("better", "worse")
    )
    return Figure("What is mixed up more, and less", f"{note} {_more(data, shares)}", svg)


def _more(data: DataDescription, shares: NDArray[np.float64]) -> str:
    """What a note ends with: the rule of the groups, and classes that share a cell."""
    num_classes = len(data.class_names)
    rule = f"Groups {first_rule(data)}."
    if len(shares) == num_classes:
        return rule
    return f"{rule} Each cell is the mean of {-(-num_classes // len(shares))} neighbouring classes."


def _matrix(
    data: DataDescription,
    shares: NDArray[np.float64],
    numbers: list[list[str]],
    *,
    label: str,
    key: tuple[str, str],
) -> Markup:
    """The drawing.

    Args:
        data: names the classes and their groups.
        shares: (K, K) cells, of as many classes or of several each.
        numbers: what is written into cells of few classes.
        label: for those who cannot see it.
        key: what the two colours mean.
    """
    order, groups = by_frequency(data)
    num_classes = len(order)
    left = 112.0 if num_classes <= _MOST_NAMED else 4.0
    top, cell = (18.0 if num_classes <= _MOST_NAMED else 4.0), _SIDE / len(shares)
    parts = [
        Markup(
            '<image x="{:g}" y="{:g}" width="{:g}" height="{:g}" preserveAspectRatio="none" '
            'style="image-rendering:pixelated" href="data:image/png;base64,{}"/>'
            '<rect x="{:g}" y="{:g}" width="{:g}" height="{:g}" fill="none" stroke="var(--rule)"/>'
        ).format(left, top, _SIDE, _SIDE, _png(shares), left, top, _SIDE, _SIDE)
    ]
    if num_classes <= _MOST_NAMED:
        parts += _names([data.class_names[c] for c in order], left=left, top=top, cell=cell)
    if num_classes <= _MOST_NUMBERED:
        parts += _numbers(shares, numbers, left=left, top=top, cell=cell)
    if groups is not None:
        spans = [
            (name, a * _SIDE / num_classes, b * _SIDE / num_classes)
            for name, a, b in group_spans(groups, order)
        ]
        parts += _groups(spans, left=left, top=top)
    parts += _key(key, left=left, top=top + _SIDE + 36)
    return drawing(label, left + _SIDE + 20, top + _SIDE + 62, parts)


def _shares(data: DataDescription, rows: tuple[tuple[int, ...], ...]) -> NDArray[np.float64]:
    """(K, K) of each row's images, frequent classes first; negative on the diagonal."""
    order, _ = by_frequency(data)
    confusion = np.asarray(rows, dtype=np.float64)[np.ix_(order, order)]
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    right = shares.diagonal().copy()
    np.fill_diagonal(shares, 0.0)
    block = -(-len(shares) // _MOST_CELLS)
    starts = np.arange(0, len(shares), block)
    sizes = np.diff([*starts, len(shares)])
    shares = np.add.reduceat(np.add.reduceat(shares, starts, 0), starts, 1) / sizes[:, None]
    np.fill_diagonal(shares, -np.add.reduceat(right, starts) / sizes)
    return shares


def _opacity(share: float) -> float:
    """The root, so that the many small mistakes are seen beside the large numbers."""
    return 0.1 + 0.8 * min(1.0, abs(share)) ** 0.5 if share else 0.0


def _png(shares: NDArray[np.float64]) -> str:
    """A pixel a cell in 2 x 128 shades, base64."""
    from PIL import Image

    levels = np.rint(_LEVELS * np.sqrt(np.minimum(np.abs(shares), 1))).astype(np.uint8)
    levels[shares < 0] += _LEVELS + 1
    image = Image.fromarray(levels)
    image.putpalette([*_BAD * (_LEVELS + 1), *_GOOD * (_LEVELS + 1)])
    alpha = bytes(round(255 * _opacity((i / _LEVELS) ** 2)) for i in range(_LEVELS + 1))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=alpha * 2, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _names(names: list[str], *, left: float, top: float, cell: float) -> list[Markup]:
    """Numbered names beside the rows, the numbers above the columns."""
    size = min(10.5, 0.8 * cell)
    parts = []
    for i, name in enumerate(names):
        middle = (i + 0.5) * cell
        text = f"{shortened(name, 15)} · {i + 1}"
        parts.append(
            words(left - 5, top + middle + 0.35 * size, text, size=size, more='text-anchor="end"')
        )
        parts.append(words(left + middle, top - 5, str(i + 1), size=size))
    return parts


def _numbers(
    shares: NDArray[np.float64],
    numbers: list[list[str]],
    *,
    left: float,
    top: float,
    cell: float,
) -> list[Markup]:
    """Where there is anything to say."""
    size = min(11.0, 0.4 * cell)
    return [
        words(
            left + (j + 0.5) * cell,
            top + (i + 0.5) * cell + 0.35 * size,
            numbers[i][j],
            size=size,
        )
        for i, row in enumerate(shares)
        for j, share in enumerate(row)
        if abs(share) >= 0.005
    ]


def _groups(spans: list[tuple[str, float, float]], *, left: float, top: float) -> list[Markup]:
    """Lines between the groups, and their names to the right and below."""
    parts = []
    for name, start, stop in spans:
        if stop == start:
            continue
        middle = (start + stop) / 2
        parts.append(words(left + middle, top + _SIDE + 15, name, size=10.5))
        x, y = left + _SIDE + 7, top + middle
        turned = f'text-anchor="middle" transform="rotate(90 {x:g} {y:g})"'
        parts.append(words(x, y, name, size=10.5, more=turned))
        if start:
            parts.append(
                Markup('<path d="M{:g} {:g}h{:g}M{:g} {:g}v{:g}" stroke="var(--ink)"/>').format(
                    left, top + start, _SIDE, left + start, top, _SIDE
                )
            )
    return parts


def _key(names: tuple[str, str], *, left: float, top: float) -> list[Markup]:
    """Which shade is how many percent."""
    parts = []
    for row, (name, colour) in enumerate(zip(names, (_GOOD, _BAD), strict=True)):
        x = left + row * _SIDE / 2
        parts.append(words(x, top + 11, name, size=10.5, more='text-anchor="start"'))
        for i, share in enumerate((0.01, 0.1, 0.5, 1.0)):
            parts.append(
                Markup(
                    '<rect x="{:g}" y="{:g}" width="30" height="12" fill="rgb{}" '
                    'fill-opacity="{:.2f}"/>'
                ).format(x + 42 + 32 * i, top, colour, _opacity(share))
            )
            text = f"{100 * share:.0f}" + (" %" if share == 1 else "")
            parts.append(words(x + 57 + 32 * i, top + 25, text, size=9.5))
    return parts
