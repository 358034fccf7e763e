import csv
import io
import re

import numpy as np
import pytest

from ssl_lt.evaluate.scores.intervals import Interval
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.tables.export import latex_text, to_csv, to_latex, write_tables
from ssl_lt.report.tables.table import COUNT, PERCENT, POINTS, Column, PlusMinus, Table

NASTY = '100% of $5 & #1_a {b} ^c ~d \\e <f> |g| [h] "i" −1 ± 2'
TABLE = Table(
    "T",
    "note & more",
    (Column("Class"), Column("All", PERCENT), Column("Gain", POINTS), Column("N", COUNT)),
    (
        (NASTY, PlusMinus(0.394, 0.00912), -0.01, 1_281_167),
        ('a,"b"\nc', None, Interval(0.02, 0.03), None),
    ),
)


def unescaped(text):
    """What is left of LaTeX's special characters once every known escape is taken out."""
    known = r"\\text[a-z]+\{\}|\\[{}$&#%_]|\$\\pm\$|\$-\$|\{\[\}|\{\]\}"
    return re.findall(r"[\\{}$&#%_^~<>|\[\]\"]", re.sub(known, "", text))


def test_latex_sets_text_as_it_is():
    assert latex_text("a_b 5%") == r"a\_b 5\%"
    assert latex_text("x ± y") == r"x $\pm$ y"
    assert unescaped(latex_text(NASTY)) == []
    assert unescaped("a_b") == ["_"]


def test_latex_table_has_its_cells_and_rules():
    text = to_latex(TABLE, title="T")
    assert r"\begin{tabular}{lrrr}" in text
    assert [r"\toprule" in text, r"\midrule" in text, r"\bottomrule" in text] == [True] * 3
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 3
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [3, 3, 3]
    assert r"\caption{T. note \& more}" in text
    assert text.count(r"\begin") == text.count(r"\end")


def test_long_table_may_break_over_pages():
    columns = (Column("Class"), Column("N", COUNT))
    long = Table("T", "", columns, tuple((str(i), 1) for i in range(41)))
    text = to_latex(long, title="T")
    assert r"\begin{longtable}{lr}" in text
    assert r"\begin{table}" not in text


def test_csv_reads_back_as_numbers():
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE, title="a: T"), newline="")))
    assert rows[0] == {
        **{"Table": "a: T", "Class": NASTY},
        **{"All": "39.4", "All ±": "0.912", "N": "1281167"},
        **{"Gain": "-1", "Gain low": "", "Gain high": ""},
    }
    assert rows[1]["Class"] == 'a,"b"\nc'
    assert (rows[1]["All"], rows[1]["All ±"]) == ("", "")
    assert (rows[1]["Gain"], rows[1]["Gain low"], rows[1]["Gain high"]) == ("", "2", "3")
    assert rows[1]["N"] == ""


@pytest.mark.slow
def test_every_table_of_a_page_is_sound(make_run, tmp_path):
    names = [NASTY, *(f"c_{i} & {i} %" for i in range(45))]
    write_page([make_run("a_b"), make_run(NASTY, boost=0.2)], tmp_path / "index.html")
    write_page([make_run("a_b", names=names)], tmp_path / "one.html")
    for path in (tmp_path / "tables.tex", tmp_path / "one-tables.tex"):
        text = path.read_text()
        bare = re.sub(r"(?m)^%.*$|\\[{}%]", "", text)
        assert not re.findall(r"[%\"]|[^\x00-\x7f…✓✗]", bare)
        depth = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in bare])
        assert depth[-1] == 0 <= depth.min()
        opened = []
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
            if kind == "begin":
                opened.append(name)
            else:
                assert opened.pop() == name
        assert opened == []
        found = re.findall(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}(.*?)\\end\{", text, re.S)
        assert len(found) >= 4
        for columns, body in found:
            body = re.sub(r"(?m)^\\(caption|multicolumn).*$", "", body)
            rows = [line for line in body.splitlines() if line.endswith(r" \\")]
            assert rows
            assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}


@pytest.mark.parametrize(("page", "stem"), [("index.html", "tables"), ("b.html", "b-tables")])
def test_written_beside_the_page(tmp_path, page, stem):
    write_tables([("", [TABLE]), ("run a", [TABLE])], tmp_path / page)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{stem}.csv", f"{stem}.tex"]
    with (tmp_path / f"{stem}.csv").open(newline="") as file:
        titles = [row[0] for row in csv.reader(file) if row]
    assert titles == ["Table", "T", "T", "Table", "run a: T", "run a: T"]
    assert "run a: T. note" in (tmp_path / f"{stem}.tex").read_text()
