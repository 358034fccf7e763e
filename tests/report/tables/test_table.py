import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from ssl_lt.evaluate.scores.confusion import from_matrix
from ssl_lt.evaluate.scores.intervals import Interval, bootstrap
from ssl_lt.report.pages.templates import template
from ssl_lt.report.tables.classes import class_table, confusion_table
from ssl_lt.report.tables.comparison import chance_note, compare, difference_table, mover_tables
from ssl_lt.report.tables.export import to_markdown
from ssl_lt.report.tables.summary import summary_tables
from ssl_lt.report.tables.table import (
    COUNT,
    PERCENT,
    POINTS,
    Column,
    PlusMinus,
    Table,
    number_columns,
    plus_minus,
    text_columns,
    to_rich,
)

NASTY = "<b onload='x'>| [red]*_`$&"
COLUMNS = (Column("Class"), Column("N", COUNT))


def columns_of(table, row):
    return dict(zip(table.headings, row, strict=True))


def test_numbers_become_text_last():
    assert [PERCENT(0.12345), PERCENT(1.0), PERCENT(None)] == ["12.3", "100.0", "n/a"]
    assert [POINTS(0.05), POINTS(-0.05), POINTS(-0.0001)] == ["+5.0", "−5.0", "0.0"]
    assert COUNT(1_234_567) == "1,234,567"
    within = plus_minus(0.394, Interval(0.385, 0.403))
    assert Column("All", PERCENT).text(within) == "39.4 ± 0.9"
    assert Column("All", POINTS).text(PlusMinus(0.394, 0.009)) == "+39.4 ± 0.9"
    assert Column("All", POINTS).text(Interval(-0.01, 0.02)) == "[−1.0, +2.0]"
    assert plus_minus(0.394, None) == 0.394
    assert plus_minus(None, Interval(0, 1)) is None
    assert Column("Group").text(None) == "n/a"


def test_summary_has_a_table_a_rule_that_names_it(make_run):
    run = make_run()
    by_count, by_thirds, means = summary_tables([run])
    assert "many > 100, medium 20-100, few < 20" in by_count.note
    assert "thirds" in by_thirds.note
    assert "4 / 4 / 4" in by_thirds.note
    accuracy = run.evaluations[0].accuracy
    row = columns_of(by_count, by_count.rows[0])
    assert row["Evaluation"] == "kNN"
    drawn = bootstrap(
        run.evaluations[0].confusion.hits(num_classes=12),
        np.full(12, 40),
        groups=run.data.groups,
    )
    assert row["All"] == plus_minus(accuracy.balanced, drawn.balanced)
    assert row["Few"] == plus_minus(accuracy.groups[0].few, drawn.groups[0].few)
    row = columns_of(by_thirds, by_thirds.rows[1])
    assert row["Std"].value == run.evaluations[1].accuracy.groups[1].std
    row = columns_of(means, means.rows[0])
    assert row["Worst"] == accuracy.worst
    assert row["Worst class"] == run.data.class_names[accuracy.worst_class]


def test_several_runs_stand_side_by_side_at_each_evaluation(make_run):
    table = summary_tables([make_run("a"), make_run("b")])[0]
    assert [row[:2] for row in table.rows] == [
        ("a", "kNN"),
        ("b", "kNN"),
        ("a", "linear probe"),
        ("b", "linear probe"),
    ]


def test_the_rule_that_leaves_no_group_empty_comes_first(make_run):
    run = make_run(largest=50000)
    assert run.evaluations[0].accuracy.groups[0].few is None
    first, table = summary_tables([run])[:2]
    assert (first.title, "thirds" in first.note) == ("Accuracy", True)
    assert columns_of(first, first.texts()[0])["Few"] != "n/a"
    assert table.title == "Accuracy, groups by count"
    assert columns_of(table, table.rows[0])["Few"] is None
    assert columns_of(table, table.texts()[0])["Few"] == "n/a"


def test_classes_from_frequent_to_rare(make_run):
    run = make_run()
    shuffled = replace(run.data, counts_per_class=run.data.counts_per_class[::-1])
    table = class_table(replace(run, data=shuffled))
    assert table.rows[0][0] == "class 11"
    assert table.rows[0][2] == 500
    assert len(table.rows) == 12
    assert table.rows[0][3] == run.evaluations[0].accuracy.per_class[11]


def test_confusions_are_the_largest_off_the_diagonal(make_run):
    run = make_run(names=["cat", "dog", "cow"])
    kept = replace(run.evaluations[0], confusion=from_matrix([[30, 3, 7], [0, 40, 0], [9, 0, 31]]))
    table = confusion_table(run, kept, limit=2)
    assert table.rows == (("cow", "cat", 9, 40), ("cat", "cow", 7, 40))
    assert confusion_table(run, replace(kept, confusion=None)) is None


def test_markdown_shows_names_as_they_are():
    text = to_markdown(Table("T", "note", COLUMNS, ((NASTY + "\nx", 1),)))
    row = text.splitlines()[4]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "<" not in row
    assert r"\*\_\`" in row
    assert re.fullmatch(r"\|:-+\|-+:\|", text.splitlines()[3])
    assert re.search(r"\| Class +\|", to_markdown(Table("T", "no rows", COLUMNS, ())))


def test_html_escapes_and_aligns():
    table = Table("T<", "note", COLUMNS, ((NASTY, 1), ("b", 2)))
    html = str(template("macros.html").module.grid(table))
    seen = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            seen.append((tag, dict(attrs)))

        def handle_data(self, data):
            seen.append(data)

    Reader().feed(html)
    assert NASTY in seen
    tags = [item[0] for item in seen if isinstance(item, tuple)]
    assert "b" not in tags
    assert tags.count("th") == 4
    assert tags.count("td") == 2
    assert ("td", {"class": "number"}) in seen
    assert ("th", {"scope": "row"}) in seen
    assert seen[0][1]["class"] == "scroll"


def test_console_takes_no_markup():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(to_rich(Table("T", "note", COLUMNS, (("[red]x[/red]", 1),))))
    assert "[red]x[/red]" in console.export_text()


def test_comparison_against_subtraction(make_run):
    a, b = make_run("a"), make_run("b", boost=0.2)
    (found,) = compare([a, b])
    before, after = a.evaluations[0].accuracy, b.evaluations[0].accuracy
    assert found.differences == pytest.approx(
        [y - x for x, y in zip(before.per_class, after.per_class, strict=True)]
    )
    table = difference_table(found)
    assert [row[0] for row in table.rows[::2]] == [g.rule for g in after.groups]
    expected = after.groups[0].few - before.groups[0].few
    assert columns_of(table, table.rows[0])["Few"] == expected
    gained, lost = mover_tables(found, limit=2)
    best = max(range(12), key=lambda c: (found.differences[c], -c))
    worst = min(range(12), key=lambda c: (found.differences[c], c))
    assert gained.rows[0][0] == f"class {best}"
    assert lost.rows[0][0] == f"class {worst}"
    assert len(gained.rows) == len(lost.rows) == 2
    # 200 * sqrt(0.5 / 40)
    assert "40 test images" in chance_note(found)
    assert "22 points" in chance_note(found)


def test_comparison_takes_the_first_shared_evaluation(make_run):
    a = make_run("a", evaluations=["kNN", "linear probe"])
    b = make_run("b", evaluations=["classifier", "linear probe"])
    (found,) = compare([a, b])
    assert found.before.name == found.after.name == "linear probe"


def test_nothing_to_compare(make_run):
    a = make_run("a")
    assert compare([a]) == ()
    assert compare([a, make_run("b", evaluations=["classifier"])]) == ()
    assert compare([a, make_run("b", names=["x", "y", "z"])]) == ()
    (same,) = compare([a, replace(a, name="again")])
    assert mover_tables(same) == ()


@pytest.mark.parametrize("width", [80, 120])
def test_no_column_is_left_out_on_a_narrow_console(width):
    values = ((40.6, 22.1), (7.6, 7.3), (10, 17.3), (18.6, 10.2), (0, 0))
    numbers = tuple(PlusMinus(a / 100, b / 100) for a, b in values)
    names = ("All", "Many", "Medium", "Few", "Std")
    rows = (("pretrained", "classifier", *numbers), ("scratch", "classifier", *numbers))
    columns = (*text_columns("Run", "Evaluation"), *number_columns(PERCENT, *names))
    table = Table("T", "note", columns, rows)
    out = io.StringIO()
    Console(file=out, width=width).print(to_rich(table))
    said = out.getvalue()
    assert all(word in said for word in ("scratch", *names))
    assert all(f"{part:.1f}" in said for pair in values for part in pair)
    assert "…" not in said
