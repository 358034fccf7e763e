"""Pictures in folders, from pretraining to evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ssl_lt.engine.checkpoints.run_folder import RunFolder
from tests.toolbox import TINY, refuses, succeed

WORDS = [*TINY, "--batch-size", "8", "--image-size", "32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Red, green and blue pictures, 30, 15 and 10 of them, of several sizes."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for channel, (name, count) in enumerate({"red": 30, "green": 15, "blue": 10}.items()):
        (root / name).mkdir()
        for number in range(count):
            pixels = random.integers(0, 60, (40 + number, 50, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(root / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["0", "1024"])
def test_labelled_folders_from_end_to_end(empty, photos, cache):
    data = ["--data", f"folder:{photos}", "--cache-mib", cache]
    succeed("pretrain", *WORDS, *data)
    said = succeed("finetune", *WORDS, "--epochs", "8", "--lr", "0.05", "--loss", "ce").out
    assert "from runs/pretrain-simclr-folder" in said
    assert f"data: folder:{photos}, 44 images, 3 classes of 24 to 8 images" in said
    succeed("evaluate", "--num-workers", "0")
    results = json.loads(next(empty.glob("runs/finetune-*/results.json")).read_text())
    assert results["data"]["class_names"] == ["blue", "green", "red"]
    assert results["data"]["counts_per_class"] == [8, 12, 24]
    assert results["configuration"]["cache-mib"] == int(cache)
    best = {e["name"]: e["accuracy"]["balanced"] for e in results["evaluations"]}
    # Colours are told apart by anything that learned at all.
    assert best["linear probe, long-tailed"] > 0.9


@pytest.mark.slow
def test_worker_processes_change_nothing(empty, photos):
    words = [*WORDS, "--data", f"folder:{photos}", "--cache-mib", "0", "--knn-every", "0"]
    weights = []
    for workers in ("0", "2"):
        succeed("pretrain", *words, "--run-dir", workers, "--num-workers", workers)
        weights.append((RunFolder(empty / workers).exported / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("cache", ["0", "1024"])
def test_a_flat_folder_without_labels_is_pretrained_on(empty, photos, cache):
    data = ["--data", "folder", "--data-root", photos / "red", "--cache-mib", cache]
    said = succeed("pretrain", *WORDS, *data, "--plugins", "bcl").out
    assert "30 images, without labels" in said
    run = RunFolder(next(empty.glob("runs/pretrain-*")))
    assert run.is_finished
    assert "knn" not in run.metrics.read_text()
    assert json.loads(run.results.read_text())["data"]["counts_per_class"] == []


@pytest.mark.parametrize("verb", ["pretrain", "finetune --init-from scratch"])
def test_a_listed_file_that_is_missing_leaves_no_run_behind(empty, verb):
    (empty / "list.txt").write_text("a.png 0\nb.png 1\n")
    Image.new("RGB", (8, 8)).save(empty / "a.png")
    verb, *words = verb.split()
    words += [*WORDS, "--data", "list:list.txt", "--cache-mib", "0", "--batch-size", "2"]
    refuses(verb, empty, " ".join(words), 3, "b.png: no such file")
