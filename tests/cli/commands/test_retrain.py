"""`ssl-lt retrain`, from the command line to the results, on the digits."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from ssl_lt.report.records.results import read_results
from tests.toolbox import refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

ALL = {
    "cRT", "LWS", "tau-norm", "NCM", "COG", "SMOTE", "post-hoc LA", "threshold moving",
}  # fmt: skip
CONFIG, DATA = 2, 3


@pytest.fixture
def runs(finished, empty):
    """Copies of a pretrained and a fine-tuned run, both evaluated."""
    shutil.copytree(finished.path / "runs", empty / "runs")
    (empty / "runs" / finished.pretrained.name).rename(empty / "pretrained")
    (empty / "runs" / finished.finetuned.name).rename(empty / "finetuned")
    return empty


def evaluations(run):
    return {e.name: e for e in read_results(run / "results.json").evaluations}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetuned", "pretrained"])
def test_all_classifiers_are_added_and_the_others_stay(runs, name):
    before = evaluations(runs / name)
    outcome = succeed("retrain", name)
    after = evaluations(runs / name)
    assert {*after} == {*before} | ALL
    assert all(after[key] == before[key] for key in before)
    assert next(iter(after)) == next(iter(before))
    assert "Seconds" in outcome.out
    assert "note: without plugin" in outcome.out
    start = "a plain linear classifier" if name == "pretrained" else "the run's classifier, loss la"
    assert all(start in after[key].note for key in ("LWS", "tau-norm", "post-hoc LA"))
    held = "held out" if name == "pretrained" else "that the run was trained on"
    assert held in after["tau-norm"].note
    assert "cRT" in (runs / name / "report" / "index.html").read_text()
    # A distance to class means is no probability.
    assert {key for key in ALL if after[key].calibration is None} == {"NCM"}
    assert after["threshold moving"].note == after["post-hoc LA"].note
    moved, adjusted = (after[key].calibration for key in ("threshold moving", "post-hoc LA"))
    assert moved.confidence == pytest.approx(adjusted.confidence, rel=1e-5)
    assert moved.error == pytest.approx(adjusted.error, abs=0.01)  # an image may change its bin
    assert not list((runs / name).glob(".*"))


@pytest.mark.slow
def test_the_same_again_gives_the_same_and_replaces_it(runs):
    succeed("retrain", "--run", "finetuned", "--classifier", "crt", "lws")
    first = evaluations(runs / "finetuned")
    succeed("retrain", "--run", "finetuned", "--classifier", "lws")
    assert evaluations(runs / "finetuned") == first
    succeed("retrain", "--run", "finetuned", "--classifier", "crt", "--epochs", "1", "--lr", "0.01")
    changed = evaluations(runs / "finetuned")
    assert {*changed} == {*first}
    assert changed["cRT"] != first["cRT"]
    assert changed["LWS"] == first["LWS"]


@pytest.mark.slow
def test_evaluate_keeps_what_retrain_added(runs):
    succeed("retrain", "pretrained", "--classifier", "ncm")
    added = evaluations(runs / "pretrained")["NCM"]
    succeed("evaluate", "--run", "pretrained", "--probe-on", "long-tail", "--map-images", "0")
    after = evaluations(runs / "pretrained")
    assert after["NCM"] == added
    assert next(iter(after)) == "kNN"


def test_auto_takes_the_newest_run(runs):
    (runs / "finetuned").rename(runs / "runs" / "newest")
    said = succeed("retrain", "--classifier", "ncm").out
    assert "retraining on runs/newest" in said


def test_one_tau_needs_no_held_out_images(runs):
    succeed("retrain", "finetuned", "--classifier", "posthoc", "--taus", "0")
    found = evaluations(runs / "finetuned")
    same, own = found["post-hoc LA"], found["classifier"]
    # Where a processor has bf16 its logits are computed in it, those of the other in fp32: of the
    # 36 images of a class two may be so near a border that they change sides.
    assert same.accuracy.per_class == pytest.approx(own.accuracy.per_class, abs=0.06)
    assert same.calibration.confidence == pytest.approx(own.calibration.confidence, abs=5e-3)
    assert "tau 0 as given" in found["post-hoc LA"].note


def test_given_costs_count(runs):
    rows = [",".join(["1e30" if k == 9 else "1e-30"] * 10) for k in range(10)]
    (runs / "costs.csv").write_text("\n".join(rows))
    succeed("retrain", "finetuned", "--classifier", "threshold", "--costs", "costs.csv")
    confusion = evaluations(runs / "finetuned")["threshold moving"].confusion
    assert set(confusion.predicted) == {9}


@pytest.mark.slow
def test_a_cosine_classifier_and_two_classes(empty):
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name, count in (("a", 12), ("b", 6)):
            (empty / "photos" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(empty / "photos" / part / name / f"{number}.png")
    words = "--data folder:photos --image-size 24 --batch-size 6 --epochs 1 --width 4"
    words += " --num-workers 0 --mixed-precision no --init-from scratch --classifier cosine"
    succeed("finetune", *words.split(), "--run-dir", "run", "--loss", "ce")
    said = succeed("retrain", "run", "--num-workers", "0").out
    assert "note: without tau" in said
    found = evaluations(empty / "run")
    assert {"plug-in", "LWS"} < {*found}
    assert "tau-norm" not in found
    refused(empty, "run --classifier tau", CONFIG, "--classifier tau: the run's classifier is no")


@pytest.mark.slow
def test_an_unfinished_run_is_judged_but_its_old_numbers_are_dropped(runs):
    succeed("retrain", "finetuned", "--classifier", "ncm")
    shutil.rmtree(runs / "finetuned" / "exported")
    said = succeed("retrain", "finetuned", "--classifier", "lws").out
    assert "note: this run is not finished" in said
    assert {*evaluations(runs / "finetuned")} == {"LWS"}


refused = partial(refuses, "retrain")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("nowhere", CONFIG, "nowhere: not a run folder"),
        ("finetuned --run finetuned", CONFIG, "--run: finetuned is the run already"),
        ("finetuned --classifier crtt", CONFIG, "unknown name 'crtt'; did you mean crt?"),
        ("finetuned --classifier", CONFIG, "--classifier"),
        ("finetuned --classifier plugin", CONFIG, "--classifier plugin: a threshold between two"),
        ("finetuned --taus -1", CONFIG, "--taus"),
        ("finetuned --held-out 1", CONFIG, "--held-out"),
        ("finetuned --lr 0", CONFIG, "--lr"),
        ("finetuned --epoch 1", CONFIG, "unknown flag --epoch"),
        ("finetuned --lws-epochs 0", CONFIG, "--lws-epochs"),
        ("finetuned --smote-neighbours 0", CONFIG, "--smote-neighbours"),
        ("finetuned --cog-merge mean", CONFIG, "mean"),
        ("finetuned --costs nowhere.csv", DATA, "--costs: nowhere.csv: No such file"),
        ("finetuned --classifier crt --lr 1e38", 5, "--lr: the classifier diverged"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(runs, words, code, says):
    refused(runs, words, code, says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2\n3,4", "costs.csv: costs: 2 x 2 numbers for 10 classes"),
        ("1 2\n3", "costs.csv: not a table of numbers"),
        ("", "costs.csv"),
        ("\n".join(["1," * 9 + "-1"] * 10), "costs.csv: costs: -1 in row 0, column 9"),
        ("\n".join(["1," * 9 + "1"] * 9 + ["0," * 9 + "0"]), "costs.csv: costs: row 9 sums to 0"),
    ],
)
def test_a_bad_cost_file_is_named(runs, text, says):
    (runs / "costs.csv").write_text(text)
    refused(runs, "finetuned --costs costs.csv", DATA, says)


def test_a_damaged_results_file_is_named_before_any_work(runs):
    (runs / "finetuned" / "results.json").write_text(json.dumps({"schema_version": 1})[:-1])
    refused(runs, "finetuned", DATA, "results.json: damaged")


def test_no_run_at_all(empty):
    refused(empty, "", CONFIG, "--run: no run under runs/")
