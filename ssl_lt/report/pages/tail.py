"""The samples that look rarest and most frequent: a page, a sheet of pictures, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ssl_lt.core.files import write_text_atomically
from ssl_lt.evaluate.tail import TailScore
from ssl_lt.report.pages.templates import Tile, render
from ssl_lt.report.tables.table import Table, percent

_COLUMNS, _SIDE, _GAP, _HEADING = 16, 64, 4, 24
_MAX_EPOCHS = 13


@dataclass(frozen=True)
class TailReport:
    """What `write_tail_page` and `write_sheet` show.

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


def write_sheet(report: TailReport, path: Path) -> None:
    """Both ends of the list as one PNG, 16 samples a row."""
    rows = [-(-len(tiles) // _COLUMNS) for _, _, tiles in report.parts]
    step = _SIDE + _GAP
    size = (_GAP + _COLUMNS * step, sum(_HEADING + _GAP + n * step for n in rows))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for (heading, _, tiles), num_rows in zip(report.parts, rows, strict=True):
        draw.text((_GAP, top + _GAP), heading, fill="black")
        for i, tile in enumerate(tiles):
            picture = Image.fromarray(tile.pixels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
            row, column = divmod(i, _COLUMNS)
            sheet.paste(picture, (_GAP + column * step, top + _HEADING + row * step))
        top += _HEADING + _GAP + num_rows * step
    sheet.save(path)


def finding_table(
    score: str, findings: Sequence[TailScore], correlation: float | None, *, num_known: int
) -> Table:
    """A row a group rule: AUC, and precision against the base rate."""
    at = tuple(k for k, _ in findings[0].precision_at) if findings else ()
    spearman = "not known" if correlation is None else f"{correlation:+.3f}".replace("-", "−")
    return Table(
        title="How well the list finds rare classes",
        note=f"Score: {score}, {num_known:,} samples with one. AUC of few over many (0.500: "
        "chance). Base rate and precision at k: percent of few among all, and among the first k. "
        f"Spearman's correlation with the number of images of the class: {spearman} (rare first: "
        "negative).",
        columns=("Group rule", "AUC", "Base rate", *(f"At {k:,}" for k in at)),
        rows=tuple(
            (
                finding.rule,
                _three(finding.auc),
                percent(finding.base_rate),
                *(percent(share) for _, share in finding.precision_at),
            )
            for finding in findings
        ),
    )


def epoch_table(aucs: Mapping[int, Mapping[str, Sequence[float | None]]]) -> Table:
    """AUC of few over many after some of the epochs, the last among them.

    Args:
        aucs: epoch -> score -> AUC by count and by thirds.
    """
    epochs = sorted(aucs)
    places = np.unique(np.linspace(0, len(epochs) - 1, min(_MAX_EPOCHS, len(epochs))).round())
    scores = list(dict.fromkeys(name for epoch in epochs for name in aucs[epoch]))
    shown = [epochs[int(place)] for place in places]
    missing: tuple[None, None] = (None, None)
    return Table(
        title="AUC by epoch",
        note="Few over many, by count / by thirds of the classes; n/a where a group is empty or "
        f"the score was not known yet. {len(shown)} of {len(epochs)} epochs; tail.json has all.",
        columns=("Epoch", *scores),
        rows=tuple(
            (str(epoch), *(" / ".join(map(_three, aucs[epoch].get(s, missing))) for s in scores))
            for epoch in shown
        ),
    )


def _three(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
