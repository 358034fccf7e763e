"""`ssl-lt tail`, from the command line to the list and the page."""

from __future__ import annotations

import csv
import json
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from ssl_lt.evaluate.tail import rarities
from tests.toolbox import TINY, refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

CONFIG, DATA = 2, 3


@pytest.fixture
def run(finished, empty):
    """A copy of a run with every score."""
    shutil.copytree(finished.pretrained, empty / "run")
    return empty / "run"


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_list_page_and_numbers(run):
    said = succeed("tail", "run").out
    folder = run / "tail"
    assert {path.name for path in folder.iterdir()} == {
        "tail.csv", "tail.json", "index.html",
    }  # fmt: skip
    rows = listed(folder / "tail.csv")
    split = json.loads((run / "split.json").read_text())
    kept = load_file(run / "scores" / "epoch-0001.safetensors")
    combined = rarities(kept)["combined"]
    assert list(rows[0]) == [
        "rank", "index", "row", "memorisation", "disagreement", "cluster_size", "combined", "class",
    ]  # fmt: skip
    assert [int(row["rank"]) for row in rows] == list(range(1, len(combined) + 1))
    assert sorted(int(row["index"]) for row in rows) == list(range(len(combined)))
    sizes = np.bincount(kept["gh_cluster"][kept["gh_cluster"] >= 0])
    for row in rows[::50]:
        index = int(row["index"])
        assert int(row["row"]) == split["indices"][index]
        assert float(row["combined"]) == pytest.approx(combined[index], rel=1e-5)
        assert float(row["memorisation"]) == pytest.approx(kept["memorisation"][index], rel=1e-5)
        if row["cluster_size"]:
            assert int(row["cluster_size"]) == sizes[kept["gh_cluster"][index]]
    values = [float(row["combined"]) for row in rows if row["combined"]]
    assert values == sorted(values, reverse=True)
    counts = {name: 0 for name in {row["class"] for row in rows}}
    for row in rows:
        counts[row["class"]] += 1
    assert sorted(counts.values()) == sorted(split["counts_per_class"])
    numbers = json.loads((folder / "tail.json").read_text())
    assert [finding["rule"][:3] for finding in numbers["findings"]] == ["by ", "by "]
    assert set(numbers["auc_by_epoch"]["1"]) == {
        "memorisation", "disagreement", "cluster", "combined",
    }  # fmt: skip
    assert "AUC by epoch" in said
    page = (folder / "index.html").read_text()
    assert page.count("<img") == 128
    assert "http" not in page
    assert not list(run.glob(".*"))


def test_another_score_and_fewer_pictures_replace_the_list(run):
    succeed("tail", "run")
    succeed("tail", "--run", "run", "--score", "cluster", "--top", "3", "--epoch", "1")
    sizes = [int(row["cluster_size"]) for row in listed(run / "tail" / "tail.csv")
             if row["cluster_size"]]  # fmt: skip
    assert sizes == sorted(sizes)
    assert (run / "tail" / "index.html").read_text().count("<img") == 6
    succeed("tail", "run", "--output", "elsewhere")
    assert (run.parent / "elsewhere" / "tail.csv").is_file()


def test_pictures_without_labels_are_listed_by_name(empty):
    rng = np.random.default_rng(0)
    (empty / "photos").mkdir()
    for number in range(20):
        pixels = rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(empty / "photos" / f"{number:02},ä.png")
    words = [*TINY, "--batch-size", "10", "--image-size", "24", "--plugins", "bcl"]
    succeed("pretrain", *words, "--data", "folder:photos", "--run-dir", "run")
    said = succeed("tail", "run", "--top", "4").out
    rows = listed(empty / "run" / "tail" / "tail.csv")
    assert list(rows[0]) == ["rank", "index", "row", "memorisation", "combined", "file"]
    assert {row["file"] for row in rows} == {f"{number:02},ä.png" for number in range(20)}
    assert rows[0]["file"] == f"{int(rows[0]['row']):02},ä.png"
    assert "AUC" not in said
    assert (empty / "run" / "tail" / "index.html").read_text().count("<img") == 8


refused = partial(refuses, "tail")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("nowhere", CONFIG, "nowhere: not a run folder"),
        ("run --run run", CONFIG, "--run: run is the run already"),
        ("run --score rarity", CONFIG, "rarity"),
        ("run --top 0", CONFIG, "--top: 0, must be at least 1"),
        ("run --epoch 0", CONFIG, "--epoch: 0, the first is 1"),
        ("run --epoch 7", CONFIG, "--epoch: 7 is none of those kept, 1 to 1"),
        ("run --tops 7", CONFIG, "unknown flag --tops; did you mean --top?"),
        ("run --output run/scores", CONFIG, "--output: run/scores is not empty and has no tail"),
        ("run --output run/split.json", CONFIG, "--output: run/split.json is a file"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(run, words, code, says):
    refused(run.parent, words, code, says)


def test_missing_and_damaged_scores_are_named(run, finished):
    scores = run / "scores" / "epoch-0001.safetensors"
    kept = load_file(scores)
    scores.write_bytes(scores.read_bytes()[:-7])
    refused(run.parent, "run", DATA, "epoch-0001.safetensors: cannot be read as scores")
    save_file({"memorisation": kept["memorisation"][1:]}, scores)
    refused(run.parent, "run", DATA, "memorisation has shape")
    save_file({"memorisation": kept["memorisation"]}, scores)
    refused(
        run.parent, "run --score cluster", CONFIG, "--score: cluster is not in run/scores/epoch"
    )
    save_file({"gh_prior": kept["gh_prior"]}, scores)
    refused(run.parent, "run", DATA, "has no score of a sample")
    shutil.rmtree(run / "scores")
    refused(run.parent, "run", DATA, "run/scores: no scores")
    shutil.copytree(finished.finetuned, run.parent / "finetuned")
    refused(run.parent, "finetuned", DATA, "finetuned/scores: no scores")
