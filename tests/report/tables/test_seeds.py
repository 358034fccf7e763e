"""Seeds and starts in one table and figure, and a classifier before and after fine-tuning."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ssl_lt.report.figures.starts import starts_figure
from ssl_lt.report.records.curves import Curve
from ssl_lt.report.tables.seeds import GROUPED, seed_rows, seed_table
from ssl_lt.report.tables.start import start_table


@pytest.fixture
def rows(make_run):
    fitted = {"accuracy": Curve((0, 9), (0.5, 0.6))}
    starts = {
        "scratch": [make_run("a", evaluations=("classifier",))],
        "timm:x": [
            replace(make_run(name, boost=0.2, evaluations=("classifier",)), curves=fitted)
            for name in ("b", "c")
        ],
    }
    return seed_rows(starts)


def test_a_row_for_each_start_with_its_intervals(rows):
    table = seed_table(rows, rule="many > 100")
    assert table.headings[:4] == ["Start", "Before", "All", "All, 95 %"]
    assert table.headings[-2:] == ["Few", "Few, 95 %"]
    scratch, other = table.texts()
    assert scratch[:2] == ["scratch", "n/a"]
    assert other[:2] == ["timm:x", "50.0"]
    assert "±" not in scratch[2]  # of one seed
    assert "±" in other[2]
    for row in rows:
        for key in GROUPED:
            assert row.intervals[key].low < row.columns[key].mean < row.intervals[key].high
    narrow = seed_table(rows, rule="many > 100", intervals=["all"])
    assert narrow.headings == ["Start", "Before", "All", "All, 95 %", "Many", "Medium", "Few"]


def test_the_figure_has_a_colour_for_each_start(rows):
    figure = starts_figure(rows)
    assert figure.legend == ("scratch", "timm:x")
    assert "var(--series-1)" in figure.svg
    assert "var(--series-2)" in figure.svg
    assert "var(--series-3)" not in figure.svg


def test_before_and_after(make_run):
    run = replace(make_run(), weights="last epoch")
    assert start_table(run) is None
    run = replace(run, curves={"accuracy": Curve((0, 9, 18), (0.5, 0.7, 0.6))})
    assert start_table(run).texts() == [
        ["linear probe, before the first step", "50.0", ""],
        ["fine-tuned, last epoch", "60.0", "+10.0"],
    ]
    best = replace(run, configuration={"keep": "best", "classifier": "cosine"})
    assert start_table(best).texts()[1][1:] == ["70.0", "+20.0"]
    assert start_table(best).texts()[0][0].startswith("class means")
