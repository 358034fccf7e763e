"""Pictures in folders, from pretraining to evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ssl_lt.engine.checkpoints.run_folder import RunFolder
from tests.toolbox import TINY, refuses, succeed

WORDS = [*TINY, "--batch-size", "8"]


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
    said = " ".join(said.split())
    assert f"data: folder:{photos}, 44 images, 3 classes of 24 to 8 images" in said
    succeed("evaluate", "--num-workers", "0", "--map-images", "0")
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
    assert "parts: train 30, no test, no validation" in said
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


@pytest.fixture
def scans(empty):
    """12 bits in files of 16, in parts of other names, beside what cannot be used."""
    random = np.random.default_rng(0)
    for part, number in (("Train", 12), ("valid", 2)):
        for name in ("healthy", "ill"):
            folder = empty / "scans" / part / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = random.integers(0, 4096, (20, 24)).astype(np.uint16)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (empty / "scans" / "Train" / "unknown").mkdir()
    (empty / "scans" / "Train" / "ill" / "1.dcm").write_text("x")
    return empty / "scans"


UNDERSTOOD = """\
data: folder:scans, 24 images, 2 classes of 12 to 12 images
parts: train 24 (Train/), test 4 (valid/), no validation
labels: the names of sub-folders
classes: healthy 12, ill 12
left out: 1 .dcm (ill 1)
"""


def test_a_run_and_inspect_say_first_what_they_understood(empty, scans):
    words = [*WORDS, "--data", "folder:scans"]
    run = succeed("pretrain", *words, "--run-dir", "a").out
    assert f"run: a\n{UNDERSTOOD}images: 24 x 20 pixels, I;16, values " in run
    inspected = succeed("data", "inspect", "folder:scans").out
    assert inspected.startswith(f"{UNDERSTOOD}images: 24 x 20 pixels, I;16, values 0 to 4095")
    for said in (run, inspected):
        assert "note: no images in unknown: no class is made of that\nwarning: images of 16" in said
        assert "--value-range 0 4095" in said
    assert "Left out" in inspected
    # The page and its lists are in the folder that the last two lines name.
    assert all(len(line) <= 80 for line in inspected.splitlines()[:-2])
    found = json.loads((empty / "inspections" / "folder-scans" / "index.json").read_text())
    assert found["left_out"] == [{"kind": ".dcm", "place": "ill", "count": 1}]


def test_the_range_of_values_goes_from_run_to_run(empty, scans):
    (empty / "c.yaml").write_text("data: folder:scans\nvalue-range: [0, 4095]\n")
    said = succeed("pretrain", *WORDS, "--config", "c.yaml", "--run-dir", "a").out
    assert "images of 16 bits" not in said
    succeed("finetune", *TINY, "--batch-size", "8", "--init-from", "a", "--run-dir", "b")
    configuration = json.loads((empty / "b" / "results.json").read_text())["configuration"]
    assert configuration["value-range"] == [0, 4095]
    Image.new("RGB", (9, 9)).save(scans / "Train" / "ill" / "8bit.png")
    words = "--data folder:scans --value-range 0 4095 --run-dir c"
    refuses("pretrain", empty, words, 3, "8bit.png: cannot be decoded: has 8 bits a channel (RGB)")
