"""`ssl-lt tail`, from the command line to the lists and the page."""

from __future__ import annotations

import csv
import json
import shutil
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.toolbox import TINY, refuses, succeed, write_picture

pytestmark = pytest.mark.slow  # most of them train

CONFIG, DATA = 2, 3
WEIGHTS = ["--init-from", "run/exported", "--data", "digits"]


@pytest.fixture
def run(finished, empty):
    """A copy of a run with every score."""
    shutil.copytree(finished.pretrained, empty / "run")
    return empty / "run"


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scores_of(path):
    return {int(row["index"]): float(row["score"]) for row in listed(path) if row["score"]}


def test_list_page_and_numbers(run):
    said = succeed("tail", "run").out
    folder = run / "tail"
    assert {path.name for path in folder.iterdir()} == {"tail.csv", "tail.json", "index.html"}
    rows = listed(folder / "tail.csv")
    split = json.loads((run / "split.json").read_text())
    assert list(rows[0]) == ["rank", "index", "row", "score", "class"]
    assert [int(row["rank"]) for row in rows] == list(range(1, len(split["indices"]) + 1))
    assert sorted(int(row["index"]) for row in rows) == list(range(len(rows)))
    for row in rows[::50]:
        assert int(row["row"]) == split["indices"][int(row["index"])]
    values = [float(row["score"]) for row in rows]
    assert values == sorted(values, reverse=True)
    counts = {name: 0 for name in {row["class"] for row in rows}}
    for row in rows:
        counts[row["class"]] += 1
    assert sorted(counts.values()) == sorted(split["counts_per_class"])
    numbers = json.loads((folder / "tail.json").read_text())
    assert numbers["score"] == "density"
    assert {finding["score"] for finding in numbers["findings"]} == {
        "density", "cluster", "tailness", "memorisation", "disagreement",
    }  # fmt: skip
    assert len(numbers["findings"]) == 10
    assert "How well each score finds rare classes" in said
    page = (folder / "index.html").read_text()
    assert page.count("<img") == 128
    assert "http" not in page
    assert not list(run.glob(".*"))


@pytest.mark.parametrize("score", ["memorisation", "disagreement"])
def test_a_score_that_was_kept_is_listed(run, score):
    succeed("tail", "--run", "run", "--score", score, "--top", "3")
    kept = load_file(run / "scores" / "epoch-0001.safetensors")[score]
    found = scores_of(run / "tail" / "tail.csv")
    assert sorted(found) == np.flatnonzero(np.isfinite(kept)).tolist()
    for index, value in found.items():
        assert value == pytest.approx(kept[index], rel=1e-5)
    assert (run / "tail" / "index.html").read_text().count("<img") == 6


def test_weights_without_a_run_say_what_their_run_says(run):
    succeed("tail", "run", "--knn-k", "7", "--batch-size", "100")
    words = [*WEIGHTS, "--knn-k", "7", "--batch-size", "100"]
    succeed("tail", *words, "--output", "elsewhere")
    own, other = (scores_of(path / "tail.csv") for path in (run / "tail", run.parent / "elsewhere"))
    assert own.keys() == other.keys()
    np.testing.assert_allclose([own[i] for i in other], list(other.values()), atol=1e-4)
    numbers = json.loads((run.parent / "elsewhere" / "tail.json").read_text())
    assert numbers["weights"] == "run/exported"
    assert {finding["score"] for finding in numbers["findings"]} == {
        "density", "cluster", "tailness",
    }  # fmt: skip
    succeed("tail", *WEIGHTS, "--score", "disagreement", "--prune-ratio", "0.5")
    (new,) = (run.parent / "runs").iterdir()
    assert new.name.startswith("tail-exported-digits-")
    measured = scores_of(new / "tail.csv")
    assert 0 < np.mean(list(measured.values())) < 2


def test_a_budget_is_drawn_and_compared_with_chance(run):
    said = succeed("tail", "run", "--budget", "30", "--seed", "4").out
    chosen = listed(run / "tail" / "budget.csv")
    ranked = listed(run / "tail" / "tail.csv")
    assert len(chosen) == len({row["index"] for row in chosen}) == 30
    assert max(int(row["rank"]) for row in chosen) <= round(0.5 * len(ranked))
    coverage = json.loads((run / "tail" / "tail.json").read_text())["coverage"]
    assert coverage["num_covered"] == len({row["class"] for row in chosen})
    assert "Classes covered" in said
    assert (run / "tail" / "index.html").read_text().count("<img") == 158
    succeed("tail", "run", "--budget", "30", "--seed", "4")
    assert listed(run / "tail" / "budget.csv") == chosen
    succeed("tail", "run")
    assert not (run / "tail" / "budget.csv").exists()


def test_files_without_labels_are_listed_by_name(empty):
    for number in range(20):
        write_picture(empty / "photos" / f"{number:02},ä.png", number)
    words = [*TINY, "--batch-size", "10", "--plugins", "bcl"]
    succeed("pretrain", *words, "--data", "folder:photos", "--run-dir", "run")
    said = succeed("tail", "run", "--top", "4", "--budget", "6").out
    rows = listed(empty / "run" / "tail" / "tail.csv")
    assert list(rows[0]) == ["rank", "index", "row", "file", "score"]
    assert {row["file"] for row in rows} == {f"{number:02},ä.png" for number in range(20)}
    assert rows[0]["file"] == f"{int(rows[0]['row']):02},ä.png"
    by_file = {row["file"]: row for row in rows}
    chosen = listed(empty / "run" / "tail" / "budget.csv")
    assert len(chosen) == 6
    assert all(by_file[row["file"]] == row for row in chosen)
    assert "AUC" not in said
    assert "Classes" not in said
    assert (empty / "run" / "tail" / "index.html").read_text().count("<img") == 12


refused = partial(refuses, "tail")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("nowhere", CONFIG, "nowhere: not a run folder"),
        ("run --run run", CONFIG, "--run: run is the run already"),
        ("run --init-from run/exported", CONFIG, "--run: --init-from says what is judged"),
        ("--init-from scratch --data digits", CONFIG, "--init-from: scratch has no features"),
        ("--init-from nothing --data digits", CONFIG, "--init-from: nothing is no run"),
        ("run --score rarity", CONFIG, "rarity"),
        ("run --top 0", CONFIG, "--top: 0 is below 1"),
        ("run --knn-k 0", CONFIG, "--knn-k: 0 is below 1"),
        ("run --budget 0", CONFIG, "--budget: 0 is below 1"),
        ("run --budget 99999", CONFIG, "--budget: 99999, but there are"),
        ("run --seed 1", CONFIG, "--seed has no effect without --budget"),
        ("run --score cluster --knn-k 9", CONFIG, "--knn-k has no effect without --score density"),
        ("run --prune-ratio 0.5", CONFIG, "has no effect without --score disagreement"),
        ("run --score disagreement --prune-ratio 1", CONFIG, "--prune-ratio: 1.0 is outside"),
        ("run --image-size 24", CONFIG, "--image-size has no effect without --data or --init-from"),
        ("run --tops 7", CONFIG, "unknown flag --tops; did you mean --top?"),
        ("run --output run/scores", CONFIG, "--output: run/scores is not empty and has no tail"),
        ("run --output run/split.json", CONFIG, "--output: run/split.json is a file"),
        (
            "--init-from run/exported --data digits --score memorisation",
            CONFIG,
            "--score: run/exported has kept no memorisation; a run with --plugins bcl does",
        ),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(run, words, code, says):
    refused(run.parent, words, code, says)


def test_damaged_and_missing_scores_are_named(run):
    scores = run / "scores" / "epoch-0001.safetensors"
    kept = load_file(scores)
    scores.write_bytes(scores.read_bytes()[:-7])
    refused(run.parent, "run", DATA, "epoch-0001.safetensors: cannot be read as scores")
    save_file({"memorisation": kept["memorisation"][1:]}, scores)
    refused(run.parent, "run", DATA, "memorisation has shape")
    shutil.rmtree(run / "scores")
    refused(run.parent, "run --score memorisation", CONFIG, "run has kept no memorisation")
    succeed("tail", "run", "--score", "disagreement", "--top", "1")
