"""Tables as Markdown, LaTeX and CSV, written by pandas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.evaluate.scores.intervals import Interval
from ssl_lt.report.tables.table import Cell, PlusMinus, Table

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|#~$])")
_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "{}$&#%_"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "“": "``",
    "”": "''",
    "±": r"$\pm$",
    "−": "$-$",
    # Or "[" after the end of a row would be taken for an option of it.
    "[": "{[}",
    "]": "{]}",
}
# Longer ones are broken over pages.
_LONGEST_FLOAT = 40
_PREAMBLE = "% \\usepackage{booktabs, longtable}\n% \\usepackage[T1]{fontenc}\n\n"

Sections = Sequence[tuple[str, Sequence[Table]]]


def write_tables(sections: Sections, page: Path) -> None:
    """Writes `tables.tex` and `tables.csv` beside a page called `index.html`.

    Beside a page of another name its name comes first: two pages may share a folder.

    Args:
        sections: tables under the name of the run or comparison they belong to; "" for all.
        page: path of the page.

    Raises:
        DiskError: a file cannot be written.
    """
    titled = [(f"{name}: {t.title}" if name else t.title, t) for name, ts in sections for t in ts]
    latex = _PREAMBLE + "\n".join(to_latex(table, title=title) for title, table in titled)
    write_text_atomically(beside(page, "tables.tex"), latex)
    text = "\n".join(to_csv(table, title=title) for title, table in titled)
    write_text_atomically(beside(page, "tables.csv"), text)


def beside(page: Path, name: str) -> Path:
    """Where a file or folder of this name is that belongs to a page; see `write_tables`."""
    return page.with_name(name if page.stem == "index" else f"{page.stem}-{name}")


def to_markdown(table: Table) -> str:
    """A pipe table under a heading, its note below; of a long one, the two ends."""
    table = table.shown()
    columns = [markdown_text(name) for name in table.headings]
    rows = [[markdown_text(text) for text in row] for row in table.texts()]
    sides = ["left" if column.format is None else "right" for column in table.columns]
    grid = pd.DataFrame(rows, columns=columns).to_markdown(
        index=False, tablefmt="pipe", colalign=sides if rows else None, disable_numparse=True
    )
    return f"### {markdown_text(table.title)}\n\n{grid}\n\n{markdown_text(table.note)}\n"


def markdown_text(text: str) -> str:
    """One line that Markdown and HTML show as it is."""
    one_line = " ".join(text.split())
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SPECIAL.sub(r"\\\1", escaped)


def to_latex(table: Table, *, title: str) -> str:
    """A booktabs table whose caption is the title and the note; of a long one, the two ends."""
    table = table.shown()
    rows = [[latex_text(text) for text in row] for row in table.texts()]
    frame = pd.DataFrame(rows, columns=[latex_text(name) for name in table.headings])
    text: str = frame.to_latex(
        index=False,
        escape=False,
        column_format="".join("l" if column.format is None else "r" for column in table.columns),
        caption=f"{latex_text(title)}. {latex_text(table.note)}",
        longtable=len(rows) > _LONGEST_FLOAT,
    )
    return text


def latex_text(text: str) -> str:
    """One line that LaTeX sets as it is."""
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def to_csv(table: Table, *, title: str) -> str:
    """RFC 4180 rows under their headings, each led by the title, so that tables can be told apart.

    Numbers are plain, with six digits, and a missing one is left empty. A column in which "a ± b"
    stands has a second one for b, a column with intervals has two more.
    """
    frame = {"Table": pd.Series([title] * len(table.rows))}
    for i, column in enumerate(table.columns):
        scale = 1.0 if column.format is None else column.format.scale
        parts = [_parts(row[i], scale) for row in table.rows]
        for suffix in ("", " ±", " low", " high"):
            values = [part.get(suffix) for part in parts]
            if not suffix or any(value is not None for value in values):
                frame[column.name + suffix] = pd.Series(values).convert_dtypes()
    text: str = pd.DataFrame(frame).to_csv(index=False, lineterminator="\r\n", float_format="%.6g")
    return text


def _parts(cell: Cell, scale: float) -> dict[str, Any]:
    """What a cell puts into its column, and into those beside it."""
    match cell:
        case str() | None:
            return {"": cell}
        case PlusMinus(value, half):
            return {"": scale * value, " ±": scale * half}
        case Interval(low, high):
            return {" low": scale * low, " high": scale * high}
    return {"": scale * cell}
