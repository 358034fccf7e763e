"""Tables of numbers, which become text last, each column in its own format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from ssl_lt.evaluate.scores.intervals import Interval

# A terminal, and what is assumed where there is none.
_CONSOLE_WIDTH = 80


@dataclass(frozen=True)
class Format:
    """How numbers are written; a missing one is "n/a".

    Attributes:
        decimals: digits after the point.
        scale: what a number is multiplied by before it is written, such as 100 for percent.
        signed: whether positive numbers have a sign; 0 never has one.
    """

    decimals: int
    scale: float = 1.0
    signed: bool = False

    def __call__(self, number: float | None) -> str:
        """The number as text."""
        if number is None:
            return "n/a"
        value = round(self.scale * number, self.decimals) + 0.0  # no minus before a 0
        sign = "+" if self.signed and value else ""
        return f"{value:{sign},.{self.decimals}f}".replace("-", "−")


COUNT = Format(0)
PERCENT = Format(1, 100)
POINTS = Format(1, 100, signed=True)


@dataclass(frozen=True)
class PlusMinus:
    """A number, and half the width of its interval or its standard deviation."""

    value: float
    half: float


Cell: TypeAlias = str | float | PlusMinus | Interval | None


@dataclass(frozen=True)
class Column:
    """A heading, and how the numbers below it are written; without a format it holds text."""

    name: str
    format: Format | None = None

    def text(self, cell: Cell) -> str:
        """The cell for a reader."""
        number = self.format or COUNT
        match cell:
            case str():
                return cell
            case PlusMinus(value, half):
                return f"{number(value)} ± {Format(number.decimals, number.scale)(half)}"
            case Interval(low, high):
                return f"[{number(low)}, {number(high)}]"
        return number(cell)


@dataclass(frozen=True)
class Table:
    """Text and numbers in rows.

    Attributes:
        title: a heading.
        note: what a reader must know to read it, such as the rule of the groups.
        columns: those with text come first.
        rows: one cell a column.
        ends: how many rows at each end are shown of a long table; 0: all.
    """

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    ends: int = 0

    def shown(self) -> Table:
        """The table, or its two ends, for a reader; a CSV file has all rows."""
        if not self.ends or len(self.rows) <= 2 * self.ends:
            return self
        cut = (
            f"The first and the last {self.ends} of {len(self.rows):,} rows; all are in the CSV "
            "file of tables beside the page."
        )
        rows = (*self.rows[: self.ends], *self.rows[-self.ends :])
        return Table(self.title, f"{self.note} {cut}", self.columns, rows)

    @property
    def headings(self) -> list[str]:
        """Name of each column."""
        return [column.name for column in self.columns]

    def texts(self) -> list[list[str]]:
        """The rows for a reader."""
        return [
            [column.text(cell) for column, cell in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


def text_columns(*names: str) -> tuple[Column, ...]:
    """Columns of text."""
    return tuple(Column(name) for name in names)


def number_columns(number: Format, *names: str) -> tuple[Column, ...]:
    """Columns of numbers of one format."""
    return tuple(Column(name, number) for name in names)


def plus_minus(value: float | None, interval: Interval | None) -> Cell:
    """The value with half the width of its interval, if it has one."""
    if value is None or interval is None:
        return value
    return PlusMinus(value, (interval.high - interval.low) / 2)


def to_rich(table: Table) -> RichTable:
    """For a console; nothing in the cells is taken for markup."""
    out = RichTable(
        title=Text(f"\n{table.title}\n"),
        caption=Text(f"\n{table.note}\n"),
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    rows = table.texts()
    widths = _least_widths(table.columns, rows)
    fits = sum(widths) + 3 * (len(widths) - 1) <= _CONSOLE_WIDTH
    for column, width in zip(table.columns, widths, strict=True):
        justify: Literal["left", "right"] = "left" if column.format is None else "right"
        # Where the longest words do not fit beside whole numbers, all columns may wrap: rich would
        # keep the numbers and leave out what stands to their left.
        least = width if fits else None
        out.add_column(Text(column.name), justify=justify, min_width=least, overflow="fold")
    for row in rows:
        out.add_row(*(Text(text) for text in row))
    return out


def _least_widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """Letters that each column needs for its numbers, or for the longest word of its text."""
    widths = []
    for i, column in enumerate(columns):
        texts = [column.name, *(row[i] for row in rows)]
        parts = texts if column.format else [word for text in texts for word in text.split(" ")]
        widths.append(max(map(len, parts)))
    return widths
