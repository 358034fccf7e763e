"""The rows of every table, and how they are written to a console, to Markdown and to HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.intervals import Interval
from ssl_lt.report.records.class_order import first_rule, group_names
from ssl_lt.report.records.results import RunResult

# A terminal, and what is assumed where there is none.
_CONSOLE_WIDTH = 80
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|#~$])")


@dataclass(frozen=True)
class Table:
    """Text in rows.

    Attributes:
        title: a heading.
        note: what a reader must know to read it, such as the rule of the groups.
        columns: headings.
        rows: one text a column.
        num_text_columns: so many columns at the left hold words; the rest hold numbers.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_text_columns: int = 1


def percent(fraction: float | None) -> str:
    """In percent with one decimal; "n/a" where there is none."""
    return "n/a" if fraction is None else f"{100 * fraction:.1f}"


def percent_within(fraction: float | None, interval: Interval | None) -> str:
    """In percent, ± half the width of its interval where there is one."""
    if fraction is None or interval is None:
        return percent(fraction)
    return f"{percent(fraction)} ± {50 * (interval.high - interval.low):.1f}"


def signed_percent(difference: float) -> str:
    """Percentage points with a sign, the typographic minus, and plain 0.0."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def leading_columns(results: Sequence[RunResult], name: str) -> tuple[str, ...]:
    """Headings at the left: the run where there are several, and what else names a row."""
    return ("Run", name) if len(results) > 1 else (name,)


def class_table(result: RunResult) -> Table:
    """A row a class, the most frequent first, with the accuracy under every evaluation."""
    data = result.data
    member = group_names(data)
    order = sorted(range(len(data.class_names)), key=lambda c: (-data.counts_per_class[c], c))
    return Table(
        title="Every class",
        note=f"Accuracy in percent. Groups {first_rule(data)}.",
        columns=("Class", "Group", "Training images", *(e.name for e in result.evaluations)),
        rows=tuple(
            (
                data.class_names[c],
                member.get(c, "n/a"),
                f"{data.counts_per_class[c]:,}",
                *(percent(e.accuracy.per_class[c]) for e in result.evaluations),
            )
            for c in order
        ),
        num_text_columns=2,
    )


def confusion_table(result: RunResult, evaluation: Evaluation, *, limit: int = 10) -> Table | None:
    """The pairs of classes most often taken for one another; None where nothing was kept."""
    names = result.data.class_names
    pairs = sorted(
        (-count, true, guess)
        for true, row in enumerate(evaluation.confusion or ())
        for guess, count in enumerate(row)
        if count and true != guess
    )
    if not pairs:
        return None
    tested = evaluation.accuracy.num_test_per_class
    return Table(
        title="Most frequent confusions",
        note=f"Test images, {evaluation.name}. All classes, so no group rule applies.",
        columns=("Class", "Taken for", "Images", "Of"),
        rows=tuple(
            (names[true], names[guess], f"{-count:,}", f"{tested[true]:,}")
            for count, true, guess in pairs[:limit]
        ),
        num_text_columns=2,
    )


def to_rich(table: Table) -> RichTable:
    """For a console; nothing in the cells is taken for markup."""
    out = RichTable(
        title=Text(table.title), caption=Text(table.note), box=box.SIMPLE_HEAD, title_style="bold"
    )
    cells = list(zip(table.columns, *table.rows, strict=True))
    words = [
        max(len(word) for text in column for word in f"{text} ".split(" ")) for column in cells
    ]
    whole = [max(map(len, column)) for column in cells]
    # Where numbers fit beside the longest words they stay whole. Where not, all columns may wrap:
    # rich would keep the numbers and leave out what stands to their left.
    n = table.num_text_columns
    fits = sum(words[:n]) + sum(whole[n:]) + 3 * len(cells) <= _CONSOLE_WIDTH
    for i, name in enumerate(table.columns):
        is_number = i >= n
        justify: Literal["left", "right"] = "right" if is_number else "left"
        keep = is_number and fits
        out.add_column(Text(name), justify=justify, no_wrap=keep, overflow="fold")
    for row in table.rows:
        out.add_row(*(Text(cell) for cell in row))
    return out


def to_markdown(table: Table) -> str:
    """A pipe table under a heading, its note below."""
    sides = [":--" if i < table.num_text_columns else "--:" for i in range(len(table.columns))]
    lines = [
        f"### {markdown_text(table.title)}",
        "",
        *(f"| {' | '.join(map(markdown_text, row))} |" for row in (table.columns,)),
        f"| {' | '.join(sides)} |",
        *(f"| {' | '.join(map(markdown_text, row))} |" for row in table.rows),
        "",
        markdown_text(table.note),
        "",
    ]
    return "\n".join(lines)


def to_html(table: Table) -> Markup:
    """A `<table>` in a container of its own, which scrolls where the screen is narrow."""

    def cells(row: Sequence[str], tag: str) -> Markup:
        out = Markup()
        for i, text in enumerate(row):
            kind = Markup("") if i < table.num_text_columns else Markup(' class="number"')
            name = "th" if i == 0 and tag == "td" else tag
            scope = {"th": ' scope="row"' if tag == "td" else ' scope="col"', "td": ""}[name]
            out += Markup("<{0}{1}{2}>{3}</{0}>").format(name, Markup(scope), kind, text)
        return Markup("<tr>{}</tr>\n").format(out)

    body = Markup().join(cells(row, "td") for row in table.rows)
    # Reachable by keyboard, as a region that scrolls must be.
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table>\n<thead>{}</thead>'
        "\n<tbody>{}</tbody>\n</table></div>"
    ).format(table.title, cells(table.columns, "th"), body)


def markdown_text(text: str) -> str:
    """One line that Markdown and HTML show as it is."""
    one_line = " ".join(text.split())
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SPECIAL.sub(r"\\\1", escaped)
