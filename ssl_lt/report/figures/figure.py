"""Figures as inline SVG whose colours the page's style sheet decides, light or dark.

Matplotlib draws in placeholder colours, which are then replaced by CSS variables; text stays text.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

NUM_COLOURS = 6
INK, RULE, SHADE, SOFT, PAPER = (f"#0a0b{i:02x}" for i in range(1, 6))
SERIES = tuple(f"#0a0c{i:02x}" for i in range(1, NUM_COLOURS + 1))
MARKERS = "osD^vP"
_VARIABLES = {
    **{INK: "--ink", RULE: "--rule", SHADE: "--shade", SOFT: "--soft", PAPER: "--paper"},
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES, start=1)},
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ssl_lt",  # the same drawing is the same file
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # names of classes are drawn as they are
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
}


@dataclass(frozen=True)
class Figure:
    """A drawing with what a page writes around it.

    Attributes:
        title: a heading.
        note: how to read it.
        svg: inline; its colours are the variables of the style sheet.
        legend: name of each series.
        colours: number of each series' colour, from 1; none: 1, 2 ... 6, 1 ...
    """

    title: str
    note: str
    svg: Markup
    legend: tuple[str, ...] = ()
    colours: tuple[int, ...] = ()

    @property
    def key(self) -> list[tuple[str, int]]:
        """Name and number of the colour of each series."""
        colours = self.colours or [i % NUM_COLOURS + 1 for i in range(len(self.legend))]
        # What needs no legend may have colours.
        return list(zip(self.legend, colours, strict=False))


def style() -> Any:
    """A context in which axes are made in our style."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def drawing(width: float, height: float) -> Any:
    """An empty drawing of so many inches; without pyplot, so that no window system is touched.

    Matplotlib is loaded here, since only figures need it.
    """
    from matplotlib.figure import Figure as Drawing

    return Drawing(figsize=(width, height), layout="constrained")


def to_svg(fig: Any, label: str) -> Markup:
    """The drawing without the XML around it, its colours handed to CSS."""
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", text, count=5)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # numbered from 1 in every figure of a page
    text = re.sub(r" font-family: [^;\"]*;", "", text)  # that of the page
    text = text.replace("base64,\n", "base64,")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))


def shortened(text: str, most: int) -> str:
    """At most so many letters, the last a "…" where some were left out."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= most else one_line[: most - 1] + "…"
