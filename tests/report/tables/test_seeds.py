"""Seeds and starts in one table and figure, and a classifier before and after fine-tuning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ssl_lt.evaluate.scores.correct_mask import pack_correct, pack_groups, unpack_correct
from ssl_lt.evaluate.scores.group_intervals import GroupedAnswers, paired_group_difference
from ssl_lt.report.figures.starts import starts_figure
from ssl_lt.report.records.curves import Curve
from ssl_lt.report.tables.intervals import difference_intervals, intervals_of, resampled
from ssl_lt.report.tables.seeds import GROUPED, pooled, seed_rows, seed_table
from ssl_lt.report.tables.start import start_table

LABELS = np.repeat(np.arange(12), 40)
PATIENTS = pack_groups(np.arange(480) // 20, LABELS)  # two of each class


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


def answering(run, *, patients=""):
    """The run with answers that agree with its confusion, of patients who are right or wrong."""
    (evaluation,) = run.evaluations
    hits = evaluation.confusion.hits(num_classes=12)
    right = np.concatenate([np.arange(40) < h for h in hits])
    answers = pack_correct(right, LABELS, test_sha256="t")
    data = replace(run.data, grouped_by="patient" if patients else "", test_groups=patients)
    return replace(run, data=data, evaluations=(replace(evaluation, answers=answers),))


def width(run):
    interval = intervals_of(run, run.evaluations[0]).balanced
    return interval.high - interval.low


def test_the_mean_of_copies_is_as_uncertain_as_the_one_over_groups_of_images(make_run):
    one = answering(make_run(boost=1.0, evaluations=("classifier",)), patients=PATIENTS)
    mean = pooled([one] * 5, name="five")
    first, of_mean = one.evaluations[0], mean.evaluations[0]
    assert first.accuracy.harmonic_floored > first.accuracy.worst == 0
    assert of_mean.accuracy == first.accuracy
    assert intervals_of(mean, of_mean) == intervals_of(one, first)
    assert resampled([mean]) == "groups of test images (patient)"
    table = seed_table(seed_rows({"a": [one, one]}), rule="r", over=resampled([mean]))
    assert "of the mean over groups of test images (patient), which" in table.note
    # Old files do not say which images were right: no groups are drawn, and no note says so.
    old = replace(one, evaluations=(replace(first, answers=None),))
    mean = pooled([one, old], name="old")
    assert width(mean) < 0.6 * width(one)
    assert resampled([mean]) == "test images"


def test_the_mean_of_seeds_is_drawn_image_by_image(make_run):
    runs = [
        answering(make_run(n, boost=b, evaluations=("classifier",)))
        for b, names in ((0.0, "abc"), (0.1, "def"))
        for n in names
    ]
    before, after = pooled(runs[:3], name="before"), pooled(runs[3:], name="after")
    rights = [
        np.mean([unpack_correct(r.evaluations[0].answers, num_images=480) for r in part], axis=0)
        for part in (runs[:3], runs[3:])
    ]
    # Seeds that err on different images: their mean is less uncertain than each.
    assert width(before) < width(pooled(runs[:1], name="one"))
    pair = [(run, run.evaluations[0]) for run in (before, after)]
    assert difference_intervals(*pair) == (
        paired_group_difference(
            GroupedAnswers(rights[0], LABELS, np.arange(480)),
            rights[1],
            num_classes=12,
            groups=before.data.groups,
        ),
        "paired",
    )


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
