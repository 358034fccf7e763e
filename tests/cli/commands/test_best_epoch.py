"""The epoch and the weights that are kept are those that every command takes, and says so."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from tests.toolbox import TINY, logged, succeed

pytestmark = pytest.mark.slow

WORDS = [*TINY, "--init-from", "scratch", "--lr", "0.2", "--eval-every", "1", "--epochs", "4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    words = [*WORDS, "--val-fraction", "0.2", "--keep", "best", "--ema", "0.9"]
    succeed("finetune", *words, "--schedule", "constant", "--run-dir", path)
    return path


def evaluation(run, name="classifier"):
    results = json.loads((run / "results.json").read_text())
    return results["weights"], next(e for e in results["evaluations"] if e["name"] == name)


def test_results_and_exports_are_of_the_best_epoch(run):
    accuracies = [line["accuracy"] for line in logged(run) if "accuracy" in line]
    best = accuracies.index(max(accuracies)) + 1
    weights, judged = evaluation(run)
    assert weights == (
        f"epoch {best} of 4, chosen by accuracy on validation images ({max(accuracies):.3f}), "
        "averaged with decay 0.9"
    )
    assert judged["note"] == f"loss la, {weights}"
    path, step = evaluated_weights(run / "checkpoints")
    exported, saved = load_file(run / "exported/model.safetensors"), load_file(path)
    assert path.name == "ema.safetensors"
    assert step % best == 0
    assert all(saved[f"backbone.{name}"].equal(tensor) for name, tensor in exported.items())
    # `evaluate.py` takes the same weights, and the page says which.
    succeed("evaluate", "--run", run, "--map-images", "0", "--num-workers", "0")
    again, same = evaluation(run)
    assert (again, same["accuracy"]) == (weights, judged["accuracy"])
    assert weights in (run / "report/index.html").read_text()
    succeed("export", run)
    assert weights.split(",")[0] in (run / "exported-model/README.md").read_text()


def test_a_run_that_starts_from_it_starts_from_them(run, empty):
    words = [*TINY, "--init-from", str(run), "--init-classifier", "--lr", "1e-30"]
    succeed("finetune", *words, "--weight-decay", "0", "--run-dir", "next")
    _, judged = evaluation(run)
    _, started = evaluation(empty / "next")
    path, _ = evaluated_weights(run / "checkpoints")
    first = load_file(path)
    weights = load_file(evaluated_weights(empty / "next" / "checkpoints")[0])
    assert weights["classifier.weight"].equal(first["classifier.weight"])
    assert judged["accuracy"].keys() == started["accuracy"].keys()


def test_pretraining_goes_by_neighbours(empty, run):
    words = [*TINY, "--epochs", "3", "--knn-every", "1", "--keep", "best", "--early-stop", "1"]
    succeed("pretrain", *words, "--val-data", "digits", "--run-dir", "run")
    found = [line["knn"] for line in logged(empty / "run") if "knn" in line]
    results = json.loads((empty / "run/results.json").read_text())
    best = found.index(max(found)) + 1
    assert results["weights"] == (
        f"epoch {best} of 3, chosen by knn on validation images ({max(found):.3f})"
    )
