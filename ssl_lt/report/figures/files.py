"""Figures as SVG files of their own, for papers, slides and documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import escape

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.report.figures.colours import DARK, LIGHT
from ssl_lt.report.figures.figure import Figure
from ssl_lt.report.tables.export import beside

_LINE = 14.0  # points from one name of a legend to the next
_MARGIN = 6.0


def write_figures(figures: Sequence[tuple[str, Figure]], page: Path) -> None:
    """Writes `figures/TITLE.svg` and `figures/TITLE-dark.svg` beside a page called `index.html`.

    Beside a page of another name its name comes first: two pages may share a folder.

    Args:
        figures: under the name of the part of the page they belong to; "" for all of it.
        page: path of the page.

    Raises:
        DiskError: a file cannot be written.
    """
    folder = beside(page, "figures")
    for name, figure in figures:
        stem = "-".join(re.findall(r"\w+", f"{name} {figure.title}".lower()))
        write_text_atomically(folder / f"{stem}.svg", to_file(figure, LIGHT))
        write_text_atomically(folder / f"{stem}-dark.svg", to_file(figure, DARK))


def to_file(figure: Figure, colours: Mapping[str, str]) -> str:
    """A whole SVG document: the legend, a name a line, above the drawing.

    Args:
        figure: whose colours are still names.
        colours: of each name.
    """
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', figure.svg)
    assert found is not None, "matplotlib's drawing without a viewBox"
    width, height = map(float, found.groups())
    legend = []
    for i, (name, colour) in enumerate(figure.key):
        y = (i + 0.5) * _LINE
        legend += [
            f'<circle cx="4" cy="{y:g}" r="3.5" fill="var(--series-{colour})"/>',
            f'<text x="13" y="{y + 3:g}" fill="var(--ink)">{escape(name)}</text>',
        ]
    top = _LINE * len(figure.legend) + (4 if legend else 0)
    box = (-_MARGIN, -_MARGIN, width + 2 * _MARGIN, height + top + 2 * _MARGIN)
    start = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{box[2]:g}pt" height="{box[3]:g}pt" viewBox="{" ".join(f"{x:g}" for x in box)}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="9">'
    )
    paper = '<rect x="{:g}" y="{:g}" width="{:g}" height="{:g}" fill="var(--paper)"/>'.format(*box)
    place = f'<svg y="{top:g}" width="{width:g}" height="{height:g}" overflow="visible"'
    drawn = str(figure.svg).replace("<svg", place, 1)
    text = "\n".join([start, paper, *legend, drawn.rstrip("\n"), "</svg>", ""])
    return re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], text)
