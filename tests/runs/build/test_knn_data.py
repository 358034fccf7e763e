"""A pretraining without labels that is measured on a small labelled set."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from ssl_lt.evaluate.monitor import Monitor
from tests.toolbox import TINY, call, logged, refuses, succeed, write_picture

WORDS = [*TINY, "--batch-size", "8", "--data", "folder:loose"]


@pytest.fixture
def place(empty, monkeypatch):
    """16 pictures without labels, and a small labelled set."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for number in range(16):
        write_picture(empty / "loose" / f"{number:02}.png", number)
        write_picture(empty / "few" / "ab"[number % 2] / f"{number:02}.png", 100 + number)
    return empty


def test_accuracy_between_epochs_and_what_comes_next(place):
    words = ["--knn-data", "folder:few", "--knn-every", "1", "--epochs", "2", "--run-dir", "run"]
    said = succeed("pretrain", *WORDS, *words).out
    measured = [line for line in logged(place / "run") if "feature_std" in line]
    assert len(measured) == 2
    assert all(0 <= line["knn"] <= 1 for line in measured)
    # The line that says what comes next is true.
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    assert line == (
        "next: evaluate.py --run run --data LABELLED, "
        "or finetune.py --init-from run --data LABELLED"
    )
    quick = "--data folder:few --map-images 0 --num-workers 0 --run-dir judged".split()
    succeed("evaluate", "--run", "run", *quick)
    result = json.loads((place / "judged/results.json").read_text())
    (knn,) = [e for e in result["evaluations"] if e["name"] == "kNN"]
    # The last measurement was of the same network on the same images.
    assert knn["accuracy"]["balanced"] == pytest.approx(measured[-1]["knn"], abs=0.3)
    refuses("evaluate", place, "--run run", 2, "folder:loose has no labels, and evaluation needs")
    # Other images than those that were measured on are refused where the run goes on.
    shutil.rmtree(place / "run/exported")
    write_picture(place / "few/a/zz.png", 1)
    outcome = call("pretrain", "--resume", "run")
    assert (outcome.code, len(outcome.err)) == (4, 1)
    assert "checkpoint of another configuration: --knn-data" in outcome.err[0]


@pytest.mark.slow
def test_labels_that_were_left_aside_are_read_of_the_set_that_is_judged(place):
    words = ["--data", "folder:few", "--label-column", "none", "--run-dir", "run"]
    succeed("pretrain", *WORDS, *words, "--knn-data", "folder:few", "--knn-every", "1")
    assert "knn" in logged(place / "run")[-1]
    succeed("evaluate", "--run", "run", "--data", "folder:few", "--map-images", "0")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("--knn-data folder:loose", 2, "--knn-data: folder:loose has no labels"),
        ("--knn-data folder:few --knn-every 0", 2, "no effect without --knn-every above 0"),
        ("--knn-data folder:nowhere", 3, "nowhere: no such folder"),
        ("--knn-data folder:few --keep best", 2, "--keep best: folder:few has no validation"),
    ],
)
def test_what_is_refused(place, words, code, says):
    refuses("pretrain", place, f"{' '.join(WORDS)} {words}", code, says)


def test_the_measure_is_of_the_other_set(place):
    from ssl_lt.data.dataset import open_data
    from ssl_lt.data.options import DataOptions
    from ssl_lt.models.backbones import build_backbone
    from ssl_lt.models.options import ModelOptions
    from ssl_lt.runs.build.knn_data import open_knn_data

    loose = open_data(DataOptions(data="folder:loose", image_size=32, num_workers=0))
    few = open_knn_data("folder:few", loose)
    assert few.spec == loose.spec
    backbone = build_backbone(ModelOptions(width=4), image_size=32, seed=0)[0]
    said = []
    alone = Monitor(loose, "no", warn=said.append)(backbone)
    both = Monitor(loose, "no", warn=said.append, judged=few)(backbone)
    labelled = Monitor(few, "no", warn=said.append)(backbone)
    assert set(alone) == {"feature_std", "effective_rank"}
    assert both == {**alone, "knn": labelled["knn"]}
