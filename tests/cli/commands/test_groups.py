"""Patients who stay together, from `data split` to the intervals of a report."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_complete
from ssl_lt.data.splits.split import read_split
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.scores.correct_mask import unpack_correct, unpack_groups
from ssl_lt.evaluate.scores.group_intervals import group_bootstrap
from ssl_lt.report.records.results import read_results
from tests.toolbox import TINY, refuses, succeed, write_picture

pytestmark = pytest.mark.slow  # they train

COLUMN = ["--group-column", "patient"]


@pytest.fixture
def table(empty):
    """Ten patients of each of three diseases with three images each, and one with two diseases."""
    lines = ["image,label,patient"]
    for number in range(93):
        write_picture(empty / f"scans/{number}.png", number)
        patient, label = number // 3, number // 3 % 3
        if patient == 30:
            label = number % 3
        lines.append(f"scans/{number}.png,c{label},P{patient}")
    (empty / "all.csv").write_text("\n".join(lines) + "\n")
    return empty


def test_a_run_and_its_report(table):
    words = [*TINY, "--batch-size", "16", "--init-from", "scratch"]
    out = succeed(
        *("finetune", "--data", "csv:all.csv", *COLUMN, *words, "--val-fraction", "0.2"),
        *("--keep", "best", "--run-dir", "run"),
    ).out
    assert "of 3 to 3 images, column 'patient'" in out
    more = "--map-images 0 --shots 2 --draws 2 --knn-k 1 3 --probe lbfgs sdclr".split()
    succeed("evaluate", "--run", "run", *more)
    succeed("retrain", "--run", "run", "--classifier", "tau")
    result = read_results(RunFolder(table / "run").results)
    number = sum(result.evaluations[0].accuracy.num_test_per_class)
    sizes = result.evaluations[0].accuracy.num_test_per_class
    labels = np.repeat(np.arange(3), sizes)
    ids = unpack_groups(result.data.test_groups, num_images=number)
    assert set(np.bincount(ids)) == {3}
    answered = [e for e in result.evaluations if e.answers is not None]
    assert {"classifier", "kNN", "nearest class mean"} <= {e.name for e in answered}
    assert len(answered) > 4  # with what was made after training
    for evaluation in answered:
        right = unpack_correct(evaluation.answers, num_images=number)
        assert evaluation.intervals == group_bootstrap(
            right, labels, ids, num_classes=3, groups=result.data.groups
        )
    (drawn, *_) = [e for e in result.evaluations if e.draws]
    assert drawn.intervals.balanced.low < drawn.intervals.balanced.high
    # Validation images were chosen on, so that nothing else is held out.
    assert not any("held-out" in e.note for e in answered)
    assert "groups of test images (column" in (table / "run/report/index.html").read_text("utf-8")


def test_probes_hold_whole_patients_out(table):
    words = [*TINY, "--batch-size", "16"]
    succeed("pretrain", "--data", "csv:all.csv", *COLUMN, *words, "--run-dir", "run")
    succeed("evaluate", "--run", "run", "--knn-k", "1", "3", "--map-images", "0")
    notes = [e.note for e in read_results(RunFolder(table / "run").results).evaluations]
    assert sum("held-out groups of training images" in note for note in notes) >= 2


def test_split_files(table):
    words = ["csv:all.csv", *COLUMN, "--test-per-class", "4"]
    out = succeed("data", "split", *words, "--output", "s").out
    assert "--group-column=patient --split s/train.json" in out
    train, test = (read_split(table / "s" / f"{part}.json") for part in ("train", "test"))
    ids = open_complete("csv:all.csv", SourceOptions(group_column="patient")).train.group_ids
    assert test.counts_per_class == (4, 4, 4)
    assert not {*ids[train.indices].tolist()} & {*ids[test.indices].tolist()}
    refuses(
        *("data", table, "pack csv:all.csv packed --group-column patient", 2),
        "--group-column, --group-pattern: shards do not say which images belong together",
    )
