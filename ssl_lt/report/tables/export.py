"""Tables as LaTeX and CSV, for papers and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ssl_lt.core.files import write_text_atomically
from ssl_lt.report.tables.table import Table

_PLUS_MINUS = " ± "
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
    stem = "tables" if page.stem == "index" else f"{page.stem}-tables"
    titled = [(f"{name}: {t.title}" if name else t.title, t) for name, ts in sections for t in ts]
    latex = _PREAMBLE + "\n".join(to_latex(table, title=title) for title, table in titled)
    write_text_atomically(page.with_name(f"{stem}.tex"), latex)
    text = "\n".join(to_csv(table, title=title) for title, table in titled)
    write_text_atomically(page.with_name(f"{stem}.csv"), text)


def to_latex(table: Table, *, title: str) -> str:
    """A booktabs table whose caption is the title and the note; a long one may break over pages."""
    text, number = table.num_text_columns, len(table.columns) - table.num_text_columns
    columns = "l" * text + "r" * number
    head = _latex_row(table.columns)
    rows = "".join(map(_latex_row, table.rows))
    caption = f"\\caption{{{latex_text(title)}. {latex_text(table.note)}}}"
    if len(table.rows) > _LONGEST_FLOAT:
        return (
            f"\\begin{{longtable}}{{{columns}}}\n{caption}\\\\\n\\toprule\n{head}\\midrule\n"
            f"\\endhead\n{rows}\\bottomrule\n\\end{{longtable}}\n"
        )
    return (
        f"\\begin{{table}}\n\\centering\n{caption}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{head}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def latex_text(text: str) -> str:
    """One line that LaTeX sets as it is."""
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def to_csv(table: Table, *, title: str) -> str:
    """RFC 4180 rows under their headings, each led by the title, so that tables can be told apart.

    Numbers are plain: a column of "a ± b" becomes two, a minus is "-", and "n/a" is left empty.
    """
    split = [
        i >= table.num_text_columns and any(_PLUS_MINUS in row[i] for row in table.rows)
        for i in range(len(table.columns))
    ]

    def cells(row: Sequence[str], second: str) -> list[str]:
        out = []
        for i, text in enumerate(row):
            words = i < table.num_text_columns
            value = text if words else text.replace("−", "-")
            value = "" if value == "n/a" and not words else value
            if split[i]:
                number, _, half = value.partition(_PLUS_MINUS)
                out += [number, second.format(number) if second else half]
            else:
                out.append(value)
        return out

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["Table", *cells(table.columns, "{} ±")])
    writer.writerows([title, *cells(row, "")] for row in table.rows)
    return buffer.getvalue()


def _latex_row(row: Sequence[str]) -> str:
    return f"{' & '.join(map(latex_text, row))} \\\\\n"
