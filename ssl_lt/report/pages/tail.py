"""The page of the samples that look rarest and most frequent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.report.pages.templates import Tile, render
from ssl_lt.report.tables.table import Table


@dataclass(frozen=True)
class TailReport:
    """What `write_tail_page` shows.

    Attributes:
        title: of the page.
        lead: which run, epoch and score.
        rarest: the rarest first.
        most_frequent: the most frequent last, as at the end of the list.
        tables: what the classes say, where they are known.
    """

    title: str
    lead: str
    rarest: tuple[Tile, ...]
    most_frequent: tuple[Tile, ...]
    tables: tuple[Table, ...]

    @property
    def parts(self) -> tuple[tuple[str, str, tuple[Tile, ...]], ...]:
        """Heading, note and samples of each end of the list."""
        first, last = len(self.rarest), len(self.most_frequent)
        return (
            ("Looks rarest", f"The first {first:,} of the list: to label first.", self.rarest),
            ("Looks most frequent", f"The last {last:,} of the list.", self.most_frequent),
        )


def write_tail_page(report: TailReport, path: Path) -> None:
    """One HTML file with its pictures inside.

    Raises:
        DiskError: it cannot be written.
    """
    html = render(
        "tail.html",
        title=report.title,
        lead=report.lead,
        parts=report.parts,
        tables=report.tables,
    )
    write_text_atomically(path, html)
