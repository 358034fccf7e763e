"""The page of the samples that look rarest and most frequent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.report.pages.templates import Tile, render
from ssl_lt.report.tables.table import Table


def write_tail_page(
    path: Path,
    *,
    title: str,
    lead: str,
    rarest: Sequence[Tile],
    most_frequent: Sequence[Tile],
    tables: Sequence[Table],
) -> None:
    """One HTML file with its pictures inside.

    Args:
        path: of the page.
        title: of the page.
        lead: which run, epoch and score.
        rarest: the rarest first.
        most_frequent: the most frequent last, as at the end of the list.
        tables: what the classes say, where they are known.

    Raises:
        DiskError: it cannot be written.
    """
    parts = (
        ("Looks rarest", f"The first {len(rarest):,} of the list: to label first.", rarest),
        ("Looks most frequent", f"The last {len(most_frequent):,} of the list.", most_frequent),
    )
    html = render("tail.html", title=title, lead=lead, parts=parts, tables=tables)
    write_text_atomically(path, html)
