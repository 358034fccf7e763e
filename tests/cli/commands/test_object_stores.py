"""Pictures in an object store, from pretraining to the report, beside the same in a folder."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ssl_lt.engine.checkpoints.run_folder import RunFolder
from tests.data.bucket import Walked, use_bucket
from tests.toolbox import TINY, call, refuses, succeed

WORDS = [*TINY, "--batch-size", "8", "--image-size", "32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The folder behind `bucket://photos`: 24 red, 12 blue pictures, and 6 to test on."""
    with pytest.MonkeyPatch.context() as patch:
        place = use_bucket(patch, tmp_path_factory.mktemp("there")) / "photos"
        random = np.random.default_rng(0)
        for part, name, count in (("train", "red", 24), ("train", "blue", 12), ("test", "red", 6)):
            (place / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 60, (40 + number, 50, 3), dtype=np.uint8)
                pixels[..., 2 if name == "blue" else 0] += 150
                Image.fromarray(pixels).save(place / part / name / f"{number:02}.png")
        yield place


def weights(run):
    return (RunFolder(run).exported / "model.safetensors").read_bytes()


def test_training_and_judging_are_those_of_a_folder(empty, photos):
    found = []
    for place, workers in (("bucket://photos", "2"), (photos, "0")):
        run = empty / f"run-{len(found)}"
        words = ["--data", f"folder:{place}", "--cache-mib", "0", "--init-from", "scratch"]
        words += ["--num-workers", workers, "--epochs", "2", "--checkpoint-every", "1"]
        succeed("finetune", *WORDS, *words, "--run-dir", run)
        succeed("evaluate", "--run", run, "--num-workers", "0", "--map-images", "0")
        found.append(json.loads((run / "results.json").read_text()))
    assert weights(empty / "run-0") == weights(empty / "run-1")
    assert found[0]["evaluations"] == found[1]["evaluations"]
    assert found[0]["data"]["source"].startswith("folder:bucket://photos (as it is; 36 images")
    split = [json.loads((empty / f"run-{n}/split.json").read_text()) for n in (0, 1)]
    assert split[0].pop("source") != split[1].pop("source")
    assert split[0] == split[1]
    # As if it had been killed in the second epoch.
    before = weights(empty / "run-0")
    shutil.rmtree(max((empty / "run-0/checkpoints").glob("step-*")))
    shutil.rmtree(empty / "run-0/exported")
    succeed("finetune", "--resume", empty / "run-0")
    assert weights(empty / "run-0") == before


def test_small_sets_are_decoded_once(empty, photos):
    for run, place in (("there", "bucket://photos"), ("here", photos)):
        succeed("pretrain", *WORDS, "--data", f"folder:{place}", "--run-dir", run)
    assert weights(empty / "there") == weights(empty / "here")


def test_the_tools_for_data_say_the_same(empty, photos):
    said = {}
    for name, place in (("there", "bucket://photos"), ("here", photos)):
        source = f"folder:{place}"
        succeed("data", "inspect", source, "--output", empty / f"inspect-{name}")
        succeed(
            *("data", "split", source, "--output", empty / f"split-{name}"),
            *("--test-from", "train", "--test-per-class", "3"),
        )
        succeed("data", "pack", source, empty / f"pack-{name}", "--images-per-shard", "20")
        files = ("inspect-{}/index.json", "split-{}/train.json", "split-{}/test.json")
        found = [json.loads((empty / f.format(name)).read_text()) for f in files]
        found.append(json.loads((empty / f"pack-{name}/index.json").read_text()))
        said[name] = [{k: v for k, v in each.items() if k != "source"} for each in found]
    assert said["there"] == said["here"]
    assert said["here"][0]["parts"][0]["num_images"] == 36
    assert len(said["here"][3]["shards"]) == 3
    packed = empty / "pack-there/train-00000-of-00002.parquet"
    assert packed.read_bytes() == (empty / "pack-here" / packed.name).read_bytes()


def test_what_cannot_be_read_is_left_out_or_ends_the_run(empty, photos, monkeypatch):
    lines = [f"train/{kind}/{n:02}.png {label}" for label, kind in enumerate(("blue", "red"))
             for n in range(12)]  # fmt: skip
    lines[3:3] = ["train/blue/gone.png 0"]
    (photos / "own.txt").write_text("\n".join(lines))
    words = [*WORDS, "--data", "list:bucket://photos/own.txt", "--label-column", "none"]
    command = " ".join(map(str, words))
    says = "bucket://photos/train/blue/gone.png: no such file"
    refuses("pretrain", empty, command, 3, says)
    outcome = call("pretrain", *words, "--cache-mib", "0")  # found when the run has its folder
    assert (outcome.code, len(outcome.err)) == (3, 1)
    assert says in outcome.err[0]
    succeed("pretrain", *words, "--bad-images", "skip", "--run-dir", "run")
    with (empty / "run/bad_images.csv").open() as file:
        assert [(bad["row"], bad["name"], bad["reason"]) for bad in csv.DictReader(file)] == [
            ("3", "train/blue/gone.png", "no such file")
        ]
    assert len(json.loads((empty / "run/split.json").read_text())["indices"]) == 24
    monkeypatch.setattr(Walked, "failure", ConnectionError("no route to host"))
    refuses("pretrain", empty, "--data folder:bucket://photos", 3, "no route to host")


def test_mistakes_end_in_one_line(empty, photos):
    said = "folder:s3://bucket/x: Install s3fs to access S3"
    refuses("pretrain", empty, "--data folder:s3://bucket/x", 2, said)
    words = "--data folder:s3://me:hunter2@bucket/x"
    refuses("pretrain", empty, words, 2, "--data folder:s3://***@bucket/x: has credentials")
    words = "--data csv:own.csv --data-root s3://me:hunter2@bucket"
    refuses("pretrain", empty, words, 2, "--data-root s3://***@bucket: has credentials")
    words = "--data cifar10 --data-root s3://bucket"
    refuses("pretrain", empty, words, 2, "--data-root s3://bucket: ")
    words = f"--data folder:{photos} --test-data folder:bucket://nothing"
    refuses("pretrain", empty, words, 3, "bucket://nothing: no such folder of images")
