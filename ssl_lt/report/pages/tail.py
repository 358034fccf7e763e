"""The page of the images that look rarest and most frequent, and of those to label first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.report.pages.templates import Tile, render
from ssl_lt.report.tables.table import Table


@dataclass(frozen=True, eq=False)
class Sheet:
    """Images under a heading.

    Attributes:
        heading: what they are.
        note: how they were chosen.
        tiles: the images.
    """

    heading: str
    note: str
    tiles: Sequence[Tile]


def write_tail_page(
    path: Path, *, title: str, lead: str, sheets: Sequence[Sheet], tables: Sequence[Table]
) -> None:
    """One HTML file with its pictures inside.

    Args:
        path: of the page.
        title: of the page.
        lead: which images, score and features.
        sheets: images, in the order of the page.
        tables: what the classes say, where they are known.

    Raises:
        DiskError: it cannot be written.
    """
    html = render("tail.html", title=title, lead=lead, sheets=sheets, tables=tables)
    write_text_atomically(path, html)
