"""Validation images of their own: what goes by them, and what a run says without them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.data.validation import with_validation
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate import protocols
from ssl_lt.evaluate.probes.linear_probe import linear_probe
from tests.toolbox import TINY, call, logged, refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

WORDS = [*TINY, "--batch-size", "8", "--init-from", "scratch"]
COMPRESSED = ["--loss", "rcl", "--compression", "0.5", "--compression-start", "0"]
COMPRESSED += ["--hidden-dim", "16", "--output-dim", "8"]
COUNTS = {"train": (20, 12, 8), "test": (4, 4, 4)}
NAMES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Noisy pictures of three colours; lists of all to train on, of a share, and of the rest."""
    place = tmp_path_factory.mktemp("lists")
    random = np.random.default_rng(0)
    lines = {}
    for part, counts in COUNTS.items():
        lines[part] = []
        for channel, (name, count) in enumerate(zip(NAMES, counts, strict=True)):
            (place / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 200, (36, 36, 3), dtype=np.uint8)
                pixels[..., channel] //= 2
                path = f"{part}/{name}/{number}.png"
                Image.fromarray(pixels).save(place / path)
                lines[part].append(f"{path} {channel}\n")
        (place / f"{part}.txt").write_text("".join(lines[part]))
    (place / "blue.txt").write_text("".join(lines["test"][: COUNTS["test"][0]]))
    data = open_data(
        DataOptions(data=f"list:{place}/train.txt", test_data=f"list:{place}/test.txt")
    )
    kept = with_validation(data, 0.25)
    kept_rows = set(kept.split.indices.tolist())
    for name, wanted in (("kept", True), ("held", False)):
        rows = [row for row in range(len(lines["train"])) if (row in kept_rows) is wanted]
        (place / f"{name}.txt").write_text("".join(lines["train"][row] for row in rows))
    return place


def source(lists, train, *, test="test", val=None):
    words = ["--data", f"list:{lists}/{train}.txt", "--test-data", f"list:{lists}/{test}.txt"]
    return words if val is None else [*words, "--val-data", f"list:{lists}/{val}.txt"]


def weights(run):
    return (RunFolder(Path(run)).exported / "model.safetensors").read_bytes()


def of_log(run, name):
    return [line[name] for line in logged(Path(run)) if name in line]


@pytest.fixture(scope="module")
def runs(lists, tmp_path_factory):
    """A fine-tuning that holds images out, and one that is given the same ones."""
    place = tmp_path_factory.mktemp("runs")
    words = [*WORDS, *COMPRESSED, "--epochs", "3", "--eval-every", "1", "--checkpoint-every", "1"]
    succeed(
        *("finetune", *words, *source(lists, "train")),
        *("--val-fraction", "0.25", "--run-dir", place / "held-out"),
    )
    given = source(lists, "kept", val="held")
    succeed("finetune", *words, *given, "--run-dir", place / "given")
    return place


@pytest.mark.slow
def test_images_of_their_own_take_the_place_of_what_is_held_out(runs, lists):
    assert weights(runs / "held-out") == weights(runs / "given")
    assert read_yaml(runs / "given/config.yaml")["val-data"] == f"list:{lists}/held.txt"
    results = [
        json.loads((runs / run / "results.json").read_text()) for run in ("held-out", "given")
    ]
    judged = [result["evaluations"][0]["accuracy"] for result in results]
    assert judged[0]["per_class"] == judged[1]["per_class"]  # both on the test split


@pytest.mark.slow
def test_between_epochs_the_validation_images_are_looked_at(lists, empty):
    words = [*WORDS, "--eval-every", "1"]
    succeed("finetune", *words, *source(lists, "kept", test="held"), "--run-dir", "tested")
    given = source(lists, "kept", test="blue", val="held")
    succeed("finetune", *words, *given, "--run-dir", "given")
    assert weights("tested") == weights("given")  # nothing is chosen by them
    assert of_log("given", "accuracy") == of_log("tested", "accuracy")
    last = [
        json.loads(Path(run, "results.json").read_text())["evaluations"][0]["accuracy"]["balanced"]
        for run in ("given", "tested")
    ]
    assert of_log("given", "accuracy") == [last[1]] != [last[0]]
    words = [*WORDS[:-2], "--knn-every", "1"]
    succeed("pretrain", *words, *given, "--run-dir", "knn")
    succeed("pretrain", *words, *source(lists, "kept", test="held"), "--run-dir", "knn-tested")
    assert len(of_log("knn", "knn")) == 1
    assert of_log("knn", "knn") == of_log("knn-tested", "knn")


@pytest.mark.slow
def test_evaluation_and_retraining_choose_on_them(runs, empty, monkeypatch):
    chosen_on = []

    def probe(*features, validation, **others):
        chosen_on.append(len(validation))
        return linear_probe(*features, validation=validation, **others)

    monkeypatch.setattr(protocols, "linear_probe", probe)
    shutil.copytree(runs / "given", "run")
    words = ("--num-workers", "0", "--map-images", "0", "--knn-k", "1", "3")
    succeed("evaluate", "--run", "run", *words)
    succeed("retrain", "run", "--classifier", "tau", "--num-workers", "0")
    results = json.loads((empty / "run/results.json").read_text())
    notes = {e["name"]: e["note"] for e in results["evaluations"]}
    assert chosen_on == [10]
    assert "chosen on validation images" in notes["linear probe, long-tailed"]
    assert "of 1, 3 on validation images" in notes["kNN"]
    assert notes["tau-norm"].endswith("chosen on 10 validation images")


@pytest.mark.slow
def test_a_run_that_goes_on_finds_the_same_images(runs, lists, empty):
    shutil.copytree(runs / "given", "run")
    for step in sorted((empty / "run/checkpoints").glob("step-*"))[1:]:
        shutil.rmtree(step)
    shutil.rmtree(empty / "run/exported")
    outcome = call("finetune", "--resume", "run", "--val-data", f"list:{lists}/test.txt")
    assert (outcome.code, len(outcome.err)) == (3, 1)
    assert "has other images than this run began with" in outcome.err[0]
    text = (lists / "held.txt").read_text()
    try:
        (lists / "held.txt").write_text("".join(text.splitlines(keepends=True)[1:]))
        outcome = call("finetune", "--resume", "run")
        assert (outcome.code, len(outcome.err)) == (3, 1)
        assert "has other images than this run began with: 1 image gone" in outcome.err[0]
    finally:
        (lists / "held.txt").write_text(text)
    succeed("finetune", "--resume", "run")
    assert weights(empty / "run") == weights(runs / "given")


def test_a_folder_with_three_parts_and_what_inspection_says_of_it(lists, empty):
    for part in ("train", "test"):
        shutil.copytree(lists / part, empty / "photos" / part)
    for name in ("blue/0.png", "red/1.png"):
        (empty / "photos/val" / name).parent.mkdir(parents=True)
        shutil.copy(lists / "train" / name, empty / "photos/val" / name)
    shutil.copy(lists / "test/green/3.png", empty / "photos/val/red/copy.png")
    whole = (lists / "train/blue/1.png").read_bytes()
    (empty / "photos/val/blue/bad.png").write_bytes(whole[:300])
    said = " ".join(succeed("data", "inspect", "folder:photos", "--output", "seen").out.split())
    assert "In validation and another set: 3 pictures; what is chosen by them is biased." in said
    assert "Trained on and tested on" not in said
    found = json.loads((empty / "seen/index.json").read_text())
    assert [(part["name"], part["num_images"]) for part in found["parts"]] == [
        *(("train", 40), ("test", 12), ("validation", 4))
    ]
    assert len(found["contaminated_validation"]) == 3
    assert found["leaks"] == []
    succeed("data", "pack", "folder:photos", "packed")
    data = open_data(
        DataOptions(
            data="wds:packed", shard_cache=empty / "cache", bad_images="skip", image_size=32
        )
    )
    assert [(bad.part, bad.row) for bad in data.bad_images] == [("validation", 1)]
    assert len(data.validation) == len(data.monitor_set()) == 3
    words = " ".join([*WORDS, *COMPRESSED, "--val-fraction 0.25 --data folder:photos"])
    refuses(
        *("finetune", empty, f"{words} --bad-images skip", 2),
        "--val-fraction: folder:photos has validation images, which takes its place",
    )
    words += f" --val-data list:{lists}/held.txt --label-column none"
    refuses("finetune", empty, words, 3, "--val-data list:")


def test_mistakes_end_in_one_line(lists, empty):
    both = " ".join([*WORDS, *COMPRESSED, *source(lists, "kept", val="held")])
    refuses(
        *("finetune", empty, f"{both} --val-fraction 0.2", 2),
        f"--val-fraction: --val-data list:{lists}/held.txt takes its place; leave one of them out",
    )
    (empty / "birds.txt").write_text(f"{lists}/train/red/1.png 3\n")
    words = f"--data-root {lists} --data list:{lists}/kept.txt --val-data list:birds.txt"
    refuses("pretrain", empty, words, 3, "--val-data list:birds.txt: class '3' is not in list:")


def test_the_data_is_the_same_without_them(lists):
    options = DataOptions(data=f"list:{lists}/kept.txt", test_data=f"list:{lists}/test.txt")
    plain, other = (
        open_data(replace(options, val_data=val)) for val in (None, f"list:{lists}/held.txt")
    )
    assert plain.validation is None
    assert plain.monitor_set() is plain.test
    assert plain.sha256 == plain.train_sha256 == other.train_sha256 != other.sha256
    assert plain.split.sha256 == other.split.sha256
    assert plain.test_sha256 == other.test_sha256
