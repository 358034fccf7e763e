"""The rows of every table, and how they are written to a console, to Markdown and to HTML."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from ssl_lt.evaluate.accuracy import GroupAccuracy
from ssl_lt.report.results import Evaluation, RunResult

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


def signed_percent(difference: float) -> str:
    """Percentage points with a sign, the typographic minus, and plain 0.0."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def summary_tables(results: Sequence[RunResult]) -> tuple[Table, ...]:
    """A row a run and evaluation: one table a group rule, and one of what the mean hides."""
    rules: dict[str, None] = {}
    for result in results:
        for evaluation in result.evaluations:
            rules |= dict.fromkeys(group.rule for group in evaluation.accuracy.groups)
    by_rule = (_group_table(results, rule, first=i == 0) for i, rule in enumerate(rules))
    return (*by_rule, _means_table(results))


def _group_table(results: Sequence[RunResult], rule: str, *, first: bool) -> Table:
    sizes: dict[str, None] = {}

    def numbers(_: RunResult, evaluation: Evaluation) -> tuple[str, ...]:
        found = _group(evaluation, rule)
        if found is None:
            return (percent(evaluation.accuracy.balanced), *["n/a"] * 4)
        sizes[" / ".join(map(str, found.num_classes))] = None
        values = (evaluation.accuracy.balanced, found.many, found.medium, found.few, found.std)
        return tuple(percent(value) for value in values)

    rows = _rows(results, numbers)
    return Table(
        title="Accuracy" if first else f"Accuracy, groups {rule.split(' (')[0]}",
        note=f"Percent; All is the mean over classes. Groups {rule}: "
        f"{' or '.join(sizes) or 'no'} classes. Std is over the groups.",
        columns=(*_leading(results), "All", "Many", "Medium", "Few", "Std"),
        rows=rows,
        num_text_columns=len(_leading(results)),
    )


def _means_table(results: Sequence[RunResult]) -> Table:
    def numbers(result: RunResult, evaluation: Evaluation) -> tuple[str, ...]:
        a = evaluation.accuracy
        means = (a.harmonic, a.harmonic_floored, a.geometric, a.class_std, a.worst)
        return (*map(percent, means), result.data.class_names[a.worst_class])

    return Table(
        title="What the mean hides",
        note="Percent, over all classes, so no group rule applies. The harmonic and the geometric "
        "mean are 0 as soon as one class is; “floored” counts at least one right image a class.",
        columns=(
            *_leading(results),
            *("Harmonic", "Floored", "Geometric", "Class std", "Worst", "Worst class"),
        ),
        rows=_rows(results, numbers),
        num_text_columns=len(_leading(results)),
    )


def class_table(result: RunResult) -> Table:
    """A row a class, the most frequent first, with the accuracy under every evaluation."""
    data = result.data
    member = {
        c: name
        for groups in data.groups[:1]
        for name in ("many", "medium", "few")
        for c in getattr(groups, name)
    }
    order = sorted(range(len(data.class_names)), key=lambda c: (-data.counts_per_class[c], c))
    rule = data.groups[0].rule if data.groups else "none"
    return Table(
        title="Every class",
        note=f"Accuracy in percent. Groups {rule}.",
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
    for i, name in enumerate(table.columns):
        out.add_column(Text(name), justify="left" if i < table.num_text_columns else "right")
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


def _leading(results: Sequence[RunResult]) -> tuple[str, ...]:
    return ("Run", "Evaluation") if len(results) > 1 else ("Evaluation",)


def _rows(
    results: Sequence[RunResult], numbers: Callable[[RunResult, Evaluation], tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    # By evaluation first: what is to be compared stands side by side.
    pairs = [(result, e) for result in results for e in result.evaluations]
    order = list(dict.fromkeys(e.name for _, e in pairs))
    pairs.sort(key=lambda pair: order.index(pair[1].name))
    return tuple(
        (*((result.name,) if len(results) > 1 else ()), e.name, *numbers(result, e))
        for result, e in pairs
    )


def _group(evaluation: Evaluation, rule: str) -> GroupAccuracy | None:
    return next((group for group in evaluation.accuracy.groups if group.rule == rule), None)
