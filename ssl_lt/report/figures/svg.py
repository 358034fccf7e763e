"""Parts of drawings that are written by hand: names are escaped, colours left to the page."""

from __future__ import annotations

from markupsafe import Markup

NUM_COLOURS = 6


def drawing(label: str, width: float, height: float, parts: list[Markup]) -> Markup:
    """An inline `<svg>` of these parts, with a name for those who cannot see it."""
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {:g} {:g}">{}</svg>').format(
        label, width, height, Markup("\n").join(parts)
    )


def words(
    x: float, y: float, text: str, *, size: float, more: str = 'text-anchor="middle"'
) -> Markup:
    """Text at a place; `more` is trusted."""
    return Markup('<text x="{:g}" y="{:g}" font-size="{:g}" fill="var(--ink)" {}>{}</text>').format(
        x, y, size, Markup(more), text
    )


def shortened(text: str, most: int) -> str:
    """At most so many letters, the last a "…" where some were left out."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= most else one_line[: most - 1] + "…"
