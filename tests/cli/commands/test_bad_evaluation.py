"""Runs that cannot be judged or compared: one line each, and the others are still reported."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ssl_lt.report.records.results import read_results
from tests.toolbox import TINY, call, refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

DATA, CHECKPOINT = 3, 4
WORDS = [*TINY, "--batch-size", "4", "--knn-every", "0"]
QUICK = ["--num-workers", "0", "--probe-on", "long-tail", "--map-images", "0"]


def add_pictures(folder, count):
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def trained(empty):
    """A run on three classes, of which c has no test images."""
    for name, counts in {"a": (8, 4), "b": (6, 2), "c": (4, 0)}.items():
        add_pictures(empty / "photos" / "train" / name, counts[0])
        if counts[1]:
            add_pictures(empty / "photos" / "test" / name, counts[1])
    succeed("pretrain", *WORDS, "--data", "folder:photos", "--run-dir", "run")
    return empty


refused = partial(refuses, "evaluate")


def test_a_class_without_test_images_is_told_as_such(trained):
    succeed("evaluate", "--run", "run", *QUICK, "--knn-k", "3")
    result = read_results(trained / "run" / "results.json")
    for evaluation in result.evaluations:
        accuracy = evaluation.accuracy
        assert accuracy.per_class[2] is None
        assert accuracy.num_test_per_class == (4, 2, 0)
        assert accuracy.balanced == pytest.approx(np.mean(accuracy.per_class[:2]))
    table = (trained / "run" / "report" / "index.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    (row,) = [line for line in cells if line[1:2] == ["c"]]
    assert row[-3:] == ["n/a", "n/a", ""]


def test_too_many_shots_and_other_classes_are_refused(trained):
    says = "--shots: 5 images of each class are asked for, but class c has 4"
    refused(trained, "--run run --shots 5", DATA, says)
    shutil.rmtree(trained / "photos" / "train" / "c")
    refused(trained, "--run run", DATA, "run/split.json")


def test_no_test_split(empty):
    for name in "abcdefgh":
        add_pictures(empty / "photos" / name, 1)
    succeed("pretrain", *WORDS, "--data", "folder:photos", "--run-dir", "run")
    says = "--data: folder:photos has no test split, and evaluation needs one"
    refused(empty, "--run run", DATA, says)


def test_a_run_without_a_checkpoint_or_with_another_networks(finished, empty):
    shutil.copytree(finished.pretrained, "run")
    config = (empty / "run/config.yaml").read_text()
    (empty / "run/config.yaml").write_text(config.replace("width: 4", "width: 8"))
    refused(empty, "--run run", CHECKPOINT, "conv1.weight is (4, 3, 3, 3), expected (8, ")
    (empty / "run/config.yaml").write_text(config)
    shutil.rmtree(empty / "run/checkpoints")
    refused(empty, "--run run", CHECKPOINT, "run: has no checkpoint yet")


def change(path, **values):
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | values))


def test_a_comparison_names_what_it_cannot_read_and_shows_the_rest(finished, empty):
    names = ("damaged", "newer", "unjudged", "other")
    for name in names:
        (empty / name).mkdir()
        shutil.copy(finished.pretrained / "results.json", name)
    cut = (empty / "damaged/results.json").read_text()[:-100]
    (empty / "damaged/results.json").write_text(cut)
    change(empty / "newer/results.json", schema_version=99)
    change(empty / "unjudged/results.json", evaluations=[])
    other = json.loads((empty / "other/results.json").read_text())["data"]
    change(
        empty / "other/results.json", name="other", data=other | {"class_names": list("abcdefghij")}
    )
    outcome = call("report", *names, finished.finetuned)
    assert outcome.code == DATA
    expected = (
        "damaged/results.json: damaged",
        "newer/results.json: schema_version 99 is newer than 2",
        "unjudged: not evaluated yet",
    )
    for line, says in zip(outcome.err, expected, strict=True):
        assert line.startswith(f"error: {says}")
    page = (empty / "runs/report/index.html").read_text()
    assert "2 runs compared" in page
    assert "The runs have different classes" in page
