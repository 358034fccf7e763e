"""One collection under every name, from pretraining to the report; and images that are damaged."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_source
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from tests.configs import RECIPES
from tests.toolbox import TINY, refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

WORDS = [*TINY, "--batch-size", "32"]
COUNTS = {"train": (50, 38, 28, 22, 17, 14, 12, 10, 8, 6), "test": (10,) * 10}
SOURCES = ("folder", "csv", "list", "parquet", "arrow", "shards")


@pytest.fixture(scope="module")
def export(shared_data, tmp_path_factory):
    """205 images of CIFAR-10, long-tailed, and 100 to test on, as files and as lists of them."""
    place = tmp_path_factory.mktemp("export")
    source = open_source("cifar10", SourceOptions(data_root=shared_data))
    names = sorted(source.class_names)
    lines = {}
    for part, table in (("train", source.train), ("test", source.test)):
        lines[part] = []
        for label, (name, count) in enumerate(zip(names, COUNTS[part], strict=True)):
            rows = np.flatnonzero(table.labels == source.class_names.index(name))[:count]
            for row, pixels in zip(rows, table.take(rows).pixels, strict=True):
                path = place / "pictures" / part / name / f"{row:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(path)
                lines[part].append((path, label))
    for part, found in lines.items():
        with (place / f"{part}.csv").open("w", newline="") as file:
            rows = [(path.relative_to(place), names[label]) for path, label in found]
            csv.writer(file).writerows([("image", "label"), *rows])
        text = "".join(f"{path.relative_to(place / 'pictures')} {label}\n" for path, label in found)
        (place / f"{part}.txt").write_text(text)
    return place, names, lines


@pytest.fixture(scope="module")
def hub_export(export, tmp_path_factory):
    """The same as parquet files and as Arrow files."""
    place, names, lines = export
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    parts = datasets.DatasetDict()
    (place / "parquet").mkdir()
    for part, found in lines.items():
        rows = {"image": [str(path) for path, _ in found], "label": [label for _, label in found]}
        rows["image"] = [{"bytes": Path(p).read_bytes(), "path": None} for p in rows["image"]]
        parts[part] = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        parts[part].to_parquet(place / "parquet" / f"{part}.parquet")
    parts.save_to_disk(place / "arrow")
    cache, datasets.config.HF_DATASETS_CACHE = datasets.config.HF_DATASETS_CACHE, place / "cache"
    yield place
    datasets.config.HF_DATASETS_CACHE = cache


LISTED = {"imagenet_lt", "imagenet100_lt", "places_lt", "inaturalist2018"}


def words_of(place, source):
    return {
        "folder": ["--data", f"folder:{place}/pictures"],
        "csv": ["--data", f"csv:{place}/train.csv", "--test-data", f"csv:{place}/test.csv"],
        "list": [
            *("--data", f"list:{place}/train.txt", "--test-data", f"list:{place}/test.txt"),
            *("--data-root", f"{place}/pictures"),
        ],
        "parquet": ["--data", f"hf:{place}/parquet"],
        "arrow": ["--data", f"hf:{place}/arrow"],
        # In the order of the others.
        "shards": ["--data", f"wds:{place}/shards", "--shard-window", "0"],
    }[source]


@pytest.fixture(scope="module")
def trained(export, tmp_path_factory):
    """Pretrains on a source and judges the run, once for all tests: source -> its folder."""
    runs = tmp_path_factory.mktemp("runs")

    def train(source) -> RunFolder:
        run = RunFolder(runs / source)
        if not run.is_finished:
            words = [*WORDS, *words_of(export[0], source), "--run-dir", run.path]
            succeed("pretrain", *words, "--knn-every", "0")
            quick = ["--num-workers", "0", "--map-images", "0", "--probe-on", "long-tail"]
            succeed("evaluate", "--run", run.path, *quick)
        return run

    return train


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES[1:])
def test_every_source_gives_the_same_weights_and_report(trained, source, request):
    if source in ("parquet", "arrow"):
        request.getfixturevalue("hub_export")
    if source == "shards":
        place = request.getfixturevalue("export")[0]
        shards = ("--images-per-shard", "20")
        succeed("data", "pack", f"folder:{place}/pictures", place / "shards", *shards)
    first, second = trained("folder"), trained(source)
    weights = [(run.exported / "model.safetensors").read_bytes() for run in (first, second)]
    assert weights[0] == weights[1]
    found = [json.loads(run.results.read_text()) for run in (first, second)]
    for result in found:
        for evaluation in result["evaluations"]:
            del evaluation["answers"]["test_sha256"]  # covers file names, which do differ
    assert found[0]["evaluations"] == found[1]["evaluations"]
    assert found[1]["data"]["counts_per_class"] == list(COUNTS["train"])
    assert {e["name"] for e in found[1]["evaluations"]} >= {"kNN", "linear probe, long-tailed"}
    assert (second.report / "index.html").is_file()


# --- labels


def test_images_without_labels_are_pretrained_on_and_not_fine_tuned(empty, export):
    place, _, lines = export
    paths = "".join(f"{path}\n" for path, _ in lines["test"])
    (empty / "own.csv").write_text("image\n" + paths)
    words = [*WORDS, "--data", "csv:own.csv", "--data-root", "/"]
    said = succeed("pretrain", *words).out
    assert "data: csv:own.csv, 100 images, without labels" in said
    refuses(
        *("finetune", empty, f"--init-from scratch {' '.join(map(str, words))}", 2),
        "--data: csv:own.csv has no labels, and fine-tuning needs them: its columns are image: say "
        "with --label-column which has the labels",
    )
    shutil.rmtree(empty / "runs")
    (empty / "test.csv").write_text("image,label\nx.png,wasp\n")
    refuses(
        *("pretrain", empty, f"--data csv:{place}/train.csv --test-data csv:test.csv", 3),
        "csv:test.csv",
    )


def test_credentials_are_neither_printed_nor_written(empty):
    said = "--data csv:https://***@host/x.csv: has credentials"
    refuses("pretrain", empty, "--data csv:https://me:hunter2@host/x.csv", 2, said)
    (empty / "c.yaml").write_text("data: csv:https://me:hunter2@host/x.csv\n")
    refuses("pretrain", empty, "--config c.yaml", 2, said)


# --- images that cannot be read


@pytest.fixture
def damaged(tmp_path_factory):
    """24 red and 12 blue pictures and 6 to test on, of which 2, 1 and 1 are damaged."""
    place = tmp_path_factory.mktemp("damaged")
    random = np.random.default_rng(0)
    for part, name, count in (("train", "red", 24), ("train", "blue", 12), ("test", "red", 6)):
        for number in range(count):
            path = place / part / name / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 60, (40, 40, 3), dtype=np.uint8)
            pixels[..., 2 if name == "blue" else 0] += 150
            Image.fromarray(pixels).save(path)
    (place / "train/red/03.png").write_bytes(b"no image")
    (place / "train/red/11.png").write_bytes(b"")
    blob = io.BytesIO((place / "train/blue/05.png").read_bytes()[:2000])
    (place / "train/blue/05.png").write_bytes(blob.getvalue())
    (place / "test/red/05.png").write_bytes(b"")
    return place


def test_the_first_bad_image_stops_a_run(empty, damaged):
    words = f"{' '.join(WORDS)} --batch-size 8 --data folder:{damaged}"
    refuses("pretrain", empty, words, 3, "train/blue/05.png: cannot be decoded")


def test_too_many_bad_images_stop_a_run(empty, damaged):
    words = f"{' '.join(WORDS)} --batch-size 8 --data folder:{damaged} --bad-images skip"
    refuses(
        *("pretrain", empty, f"{words} --max-bad-images 3", 3),
        f"folder:{damaged}: more than 3 images cannot be read (--max-bad-images), the first is "
        "train image blue/05.png: ",
    )


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["0", "1024"])
def test_bad_images_are_left_out_and_listed(empty, damaged, cache):
    words = [*WORDS, "--batch-size", "8", "--data", f"folder:{damaged}", "--bad-images", "skip"]
    words += ["--max-bad-images", "4", "--cache-mib", cache, "--init-from", "scratch"]
    said = succeed("finetune", *words, "--epochs", "2", "--run-dir", "run").out
    lines = [line for line in said.splitlines() if "33" in line or "cannot be read" in line]
    assert any("33 images, 2 classes of 22 to 11 images" in line for line in lines), said
    assert any("4 that cannot be read" in line for line in lines), said
    run = RunFolder(empty / "run")
    with run.bad_images.open() as file:
        listed = [(line["part"], line["row"], line["name"]) for line in csv.DictReader(file)]
    assert listed == [
        ("train", "5", "blue/05.png"),
        ("train", "15", "red/03.png"),
        ("train", "23", "red/11.png"),
        ("test", "5", "red/05.png"),
    ]
    split = json.loads(run.split.read_text())
    assert split["counts_per_class"] == [11, 22]
    assert len(split["indices"]) == 33
    assert {5, 15, 23}.isdisjoint(split["indices"])
    results = json.loads(run.results.read_text())
    assert results["data"]["counts_per_class"] == [11, 22]
    assert results["data"]["source"].endswith("(bad_images.csv))")
    # A file that was mended since does not change what the run is judged by.
    shutil.copy(damaged / "test/red/00.png", damaged / "test/red/05.png")
    said = succeed("evaluate", "--run", "run", "--num-workers", "0", "--map-images", "0").out
    assert "on 5 test images" in said


@pytest.mark.slow
def test_the_same_images_are_left_out_after_a_resume(empty, damaged, monkeypatch):
    words = [*WORDS, "--batch-size", "8", "--data", f"folder:{damaged}", "--bad-images", "skip"]
    words += ["--epochs", "2", "--checkpoint-every", "1", "--knn-every", "0", "--cache-mib", "0"]
    succeed("pretrain", *words, "--run-dir", "whole")
    shutil.copytree("whole", "again")
    for step in sorted((empty / "again/checkpoints").glob("step-*"))[1:]:
        shutil.rmtree(step)
    shutil.rmtree(empty / "again/exported")
    succeed("pretrain", "--resume", "again")
    weights = [Path(run, "exported/model.safetensors").read_bytes() for run in ("whole", "again")]
    assert weights[0] == weights[1]


# --- recipes


@pytest.mark.parametrize("folder", sorted(LISTED))
def test_the_benchmarks_recipes_use_their_published_lists(folder):
    recipes = [read_yaml(path) for path in RECIPES.glob(f"*/{folder}/*.yaml")]
    recipes = [recipe for recipe in recipes if "data" in recipe]
    assert len(recipes) >= 3
    for recipe in recipes:
        assert recipe["data"].startswith("list:data/")
        assert recipe["test-data"].startswith("list:data/")
        assert recipe["data-root"].startswith("data/")
        assert recipe["data"].endswith("_train.txt")
        assert recipe["test-data"].endswith(("_test.txt", "_val.txt"))
