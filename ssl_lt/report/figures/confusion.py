"""Confusion matrices: classes by group and frequency, a cell a pixel.

Cells are shares of the images of their row, below 0 for what is good: what is right in a matrix,
what got better in the difference of two.
"""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ssl_lt.core.groups import leading_rule
from ssl_lt.evaluate.scores.confusion import Confusion
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.figures.figure import INK, RULE, Figure, drawing, shortened, style, to_svg
from ssl_lt.report.records.class_order import by_frequency, group_spans
from ssl_lt.report.records.results import DataDescription
from ssl_lt.report.tables.comparison import Comparison
from ssl_lt.report.tables.table import Format

# A pixel has no CSS variable: half transparent, so that it is seen on light and on dark paper.
_GOOD, _BAD = (38, 140, 208), (232, 108, 48)
_MOST_NAMED, _MOST_NUMBERED, _MOST_CELLS = 20, 12, 250

Floats = NDArray[np.float64]


def confusion_figure(data: DataDescription, evaluation: Evaluation, *, title: str) -> Figure | None:
    """True classes down, predicted classes across, both by group and from frequent to rare.

    Up to 20 classes are named, up to 12 have their percentages written into the cells. Of more
    than 250 classes, neighbouring ones share a cell.

    Args:
        data: gives the order of the classes and their groups, by the leading rule.
        evaluation: whose confusion matrix is drawn.
        title: a heading.

    Returns:
        None where no confusion matrix was kept.
    """
    if evaluation.confusion is None:
        return None
    shares = _shares(data, evaluation.confusion)
    note = (
        f"{evaluation.name}. Rows are true classes, columns predicted ones, both from frequent to "
        "rare; a row adds up to 100 %. The diagonal is what is right."
    )
    svg = _matrix(
        data, shares, np.abs(shares), Format(0, 100), label=f"Confusion matrix, {evaluation.name}"
    )
    return Figure(title, f"{note} {_more(data, shares)}", svg, ("right", "wrong"))


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
    points = shares * (1 - 2 * np.eye(len(shares)))  # on the diagonal, below 0 is more
    note = (
        f"{comparison.run.name} minus {comparison.baseline.name}, {comparison.after.name}. Rows "
        "are true classes, columns predicted ones. Better is more on the diagonal and less beside "
        "it; numbers are percentage points."
    )
    svg = _matrix(
        data,
        shares,
        points,
        Format(0, 100, signed=True),
        label="Difference of confusion matrices",
    )
    title = "What is mixed up more, and less"
    return Figure(title, f"{note} {_more(data, shares)}", svg, ("better", "worse"))


def _more(data: DataDescription, shares: Floats) -> str:
    """What a note ends with: the rule of the groups, and classes that share a cell."""
    num_classes = len(data.class_names)
    rule = f"Groups {leading_rule(data.groups)}."
    if len(shares) == num_classes:
        return rule
    return f"{rule} Each cell is the mean of {-(-num_classes // len(shares))} neighbouring classes."


def _matrix(
    data: DataDescription, shares: Floats, numbers: Floats, number: Format, *, label: str
) -> Markup:
    """The drawing.

    Args:
        data: names the classes and their groups.
        shares: (K, K) cells, of as many classes or of several each.
        numbers: (K, K), written into the cells of few classes.
        number: how they are written.
        label: for those who cannot see it.
    """
    order, groups = by_frequency(data)
    num_classes = len(order)
    with style():
        fig = drawing(4.8, 4.4)
        axes = fig.subplots()
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, color=RULE)
        axes.imshow(_pixels(shares), interpolation="none", extent=(0, num_classes, num_classes, 0))
        axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, labelbottom=False)
        axes.set(xticks=[], yticks=[])
        if num_classes <= _MOST_NAMED:
            middles = np.arange(num_classes) + 0.5
            names = [f"{shortened(data.class_names[c], 15)} · {i}" for i, c in enumerate(order, 1)]
            axes.set_xticks(middles, [str(i + 1) for i in range(num_classes)])
            axes.set_yticks(middles, names)
        if num_classes <= _MOST_NUMBERED:
            for i, j in np.argwhere(np.abs(shares) >= 0.005):
                text = number(float(numbers[i, j]))
                cell = axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=8)
                cell.set_in_layout(False)  # within the axes: nothing makes room for it
        for name, start, stop in group_spans(groups, order):
            if name and stop > start:
                middle, end = (start + stop) / 2, 1.02 * num_classes
                axes.text(end, middle, name, rotation=270, va="center", fontsize=8)
                axes.text(middle, end, name, ha="center", va="top", fontsize=8)
                if start:
                    axes.axhline(start, color=INK, linewidth=0.8)
                    axes.axvline(start, color=INK, linewidth=0.8)
        return to_svg(fig, label)


def _shares(data: DataDescription, confusion: Confusion) -> Floats:
    """(K, K) of each row's images, frequent classes first; negative on the diagonal."""
    order, _ = by_frequency(data)
    num_classes = len(order)
    block = -(-num_classes // _MOST_CELLS)
    cell = np.empty(num_classes, dtype=np.int64)
    cell[order] = np.arange(num_classes) // block
    sizes = np.bincount(cell)
    true, guess, images = confusion.arrays()
    of_row = np.bincount(true, images, minlength=num_classes)
    shares = images / of_row[true] / sizes[cell[true]]
    right, found = true == guess, np.zeros((sizes.size, sizes.size))
    np.add.at(found, (cell[true[~right]], cell[guess[~right]]), shares[~right])
    # The diagonal of a cell of several classes is what is right in them.
    np.fill_diagonal(found, -np.bincount(cell[true[right]], shares[right], minlength=sizes.size))
    return found


def _pixels(shares: Floats) -> NDArray[np.uint8]:
    """(K, K, 4) colour and opacity.

    Opacity goes by the root of the share, so that the many small mistakes are seen beside the
    large numbers.
    """
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where(shares[..., None] < 0, _GOOD, _BAD)
    opacity = 0.1 + 0.8 * np.sqrt(np.minimum(np.abs(shares), 1))
    pixels[..., 3] = np.rint(255 * np.where(shares == 0, 0, opacity))
    return pixels
