"""`ssl-lt predict`: what evaluate.py would say of each image, from wherever the network lies."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import ssl_lt
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.view_ensemble import ViewEnsemble
from ssl_lt.runs.inference import output as output_module
from ssl_lt.runs.life.place import Moved
from ssl_lt.runs.life.saved_run import load_network, open_run_data, run_config_of
from tests.faults.process import Command
from tests.runs.inference.conftest import write_photo
from tests.toolbox import call, refuses, succeed

pytestmark = pytest.mark.slow  # they train

CONFIG, DATA = 2, 3


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def judged(place, name, monkeypatch, ensemble="none"):
    """(N, C) probabilities of the test images, by the code that evaluates, with their files."""
    monkeypatch.chdir(place)
    run = RunFolder(place / name)
    config = run_config_of(run, moved=Moved(), num_workers=0)
    data = open_run_data(run, config)
    task = load_network(run, config, data).task
    network = nn.Sequential(task.backbone, task.classifier)
    network = network if ensemble == "none" else ViewEnsemble(network, ensemble)
    logits = embed_dataset(network, data.test, data, precision="no").features
    files = [data.source.test.name(row) for row in range(len(data.test))]
    return files, logits.softmax(dim=1).numpy(), data.source.class_names


def test_mirrored_images_are_nothing_to_a_network_that_saw_none(place, tmp_path):
    run = RunFolder(shutil.copytree(place / "run", tmp_path / "run"))
    text = run.inference.read_text()
    assert '"is_mirrored": true' in text
    run.inference.write_text(text.replace('"is_mirrored": true', '"is_mirrored": false'))
    words = [f"folder:{place / 'photos'}", "--output", tmp_path / "p.csv", "--num-workers", "0"]
    said = succeed("predict", run.path, *words, "--ensemble", "flip")
    assert "note: --ensemble flip: training mirrored no image" in said.out


@pytest.mark.parametrize("name", ["run", "cosine"])
@pytest.mark.parametrize("ensemble", ["none", "flip"])
def test_a_run_says_what_evaluation_says_image_by_image(
    place, tmp_path, monkeypatch, name, ensemble
):
    files, probabilities, names = judged(place, name, monkeypatch, ensemble)
    out = tmp_path / "p.csv"
    words = ["--no-calibrate", "--num-workers", "0", "--top-k", "3", "--batch-size", "5"]
    said = succeed(
        "predict", name, "folder:photos", "--output", out, "--ensemble", ensemble, *words
    )
    assert "predictions of 12 images (folder:photos, test images)" in said.out
    assert "mirrored" not in said.out
    rows = read(out)
    assert [row["file"] for row in rows] == files
    # By thirds, as all classes have fewer than 20 images.
    groups = {"ash": "many", "birch": "medium", "cedar": "few"}
    for row, p in zip(rows, probabilities, strict=True):
        order = np.argsort(-p)
        assert [row["class"], row["class_2"], row["class_3"]] == [names[c] for c in order]
        found = [float(row[k]) for k in ("probability", "probability_2", "probability_3")]
        assert found == pytest.approx(p[order], abs=1e-5)
        assert row["group"] == groups[row["class"]]


@pytest.mark.parametrize("kind", ["model", "model/model.safetensors", "alone.safetensors",
                                  "model/model.onnx", "cosine-model"])  # fmt: skip
def test_what_was_exported_says_the_same_elsewhere_without_the_data(here, place, kind):
    run = "cosine" if kind.startswith("cosine") else "run"
    succeed("predict", place / run, "photos/test", "--output", "a.csv", "--num-workers", "0")
    moved = here / "elsewhere"
    moved.mkdir()
    for folder in ("model", "cosine-model"):
        shutil.copytree(place / folder, moved / folder)
    shutil.copy(place / "model" / "model.safetensors", moved / "alone.safetensors")
    succeed("predict", moved / kind, "photos/test", "--output", "b.csv", "--num-workers", "0")
    a, b = read(here / "a.csv"), read(here / "b.csv")
    assert [(r["file"], r["class"], r["group"]) for r in a] == [
        (r["file"], r["class"], r["group"]) for r in b
    ]
    for one, other in zip(a, b, strict=True):
        assert float(one["probability"]) == pytest.approx(float(other["probability"]), rel=1e-4)


def test_a_run_that_has_moved_needs_no_data_of_training(here, place):
    shutil.copytree(place / "run", here / "moved")
    shutil.copytree(here / "photos" / "test", here / "new")
    shutil.rmtree(here / "photos")
    said = succeed("predict", "moved", "new", "--num-workers", "0").out
    assert "training images held out by --val-fraction 0.3" in said
    assert len(read(here / "predictions.csv")) == 12


def test_sources_a_file_a_folder_and_standard_input(here, place, monkeypatch):
    run, quiet = place / "run", ("--num-workers", "0")
    one = "photos/test/ash/1.png"
    succeed("predict", run, one, "--output", "one.csv", *quiet)
    succeed("predict", run, "photos/test", "--output", "folder.csv", *quiet)
    paths = f"{one}\nphotos/test/birch/0.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(paths.encode())))
    succeed("predict", run, "-", "--output", "typed.csv", *quiet)
    by_file = {row["file"]: row for row in read(here / "folder.csv")}
    (single,) = read(here / "one.csv")
    first, second = read(here / "typed.csv")
    assert single["file"] == first["file"] == one
    assert second["file"] == "photos/test/birch/0.png"
    for row in (single, first, second):
        same = by_file[row["file"].removeprefix("photos/test/")]
        assert row["class"] == same["class"]
        assert float(row["probability"]) == pytest.approx(float(same["probability"]), rel=1e-5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert "standard input has no images" in call("predict", run, "-", "--output", "x.csv").err[0]


def test_parquet_holds_what_csv_holds(here, place):
    words = [
        place / "run",
        "photos/test",
        "--num-workers",
        "0",
        "--batch-size",
        "5",
        "--top-k",
        "2",
    ]
    succeed("predict", *words, "--output", "p.csv")
    succeed("predict", *words, "--output", "p.parquet")
    a, b = pd.read_csv("p.csv"), pd.read_parquet("p.parquet")
    pd.testing.assert_frame_equal(a, b, check_dtype=False, rtol=1e-6)
    assert {path.name for path in here.iterdir()} == {"photos", "p.csv", "p.parquet"}


def test_images_that_cannot_be_read_are_listed_and_the_others_predicted(here, place):
    (here / "photos/test/ash/0.png").write_bytes(b"no image")
    (here / "photos/test/cedar/2.png").write_bytes(b"")
    (here / "photos/test/cedar/9.heic").write_bytes(b"")
    said = succeed(
        "predict", place / "run", "photos/test", "--batch-size", "3", "--num-workers", "1"
    )
    assert "left out: 1 .heic" in said.out
    assert "not read: 2 images, listed with reasons in predictions.unreadable.txt" in said.out
    listed = (here / "predictions.unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["ash/0.png", "cedar/2.png"]
    assert "not an image" in listed[0]
    assert "empty file" in listed[1]
    files = [row["file"] for row in read(here / "predictions.csv")]
    assert len(files) == 10
    assert not {"ash/0.png", "cedar/2.png"} & {*files}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("torn", ["nothing", "a row", "a line of the journal", "all but the head"])
def test_a_table_goes_on_where_it_was_stopped(here, place, monkeypatch, suffix, torn):
    (here / "photos/test/ash/1.png").write_bytes(b"no image")
    words = [place / "run", "photos/test", "--num-workers", "0", "--batch-size", "2"]
    succeed("predict", *words, "--output", f"whole.{suffix}")
    write = output_module.Output.write

    def stopped(self, columns, *, done, unreadable=()):
        if done > 6:
            raise KeyboardInterrupt
        write(self, columns, done=done, unreadable=unreadable)

    out = f"p.{suffix}"
    with monkeypatch.context() as patch:
        patch.setattr(output_module.Output, "write", stopped)
        assert call("predict", *words, "--output", out).code == 130
    table, partial = here / out, here / f"{out}.partial"
    assert partial.is_file()
    if torn == "a row" and suffix == "csv":
        with table.open("ab") as file:
            file.write(b"ash/3.png,as")
    elif torn == "a line of the journal":
        partial.write_bytes(partial.read_bytes()[:-7])
    elif torn == "all but the head":
        partial.write_bytes(partial.read_bytes().splitlines(keepends=True)[0])
    said = succeed("predict", *words, "--output", out).out
    if torn == "nothing":
        assert "going on after 6 of 12 images" in said
    if suffix == "csv":
        assert table.read_bytes() == (here / "whole.csv").read_bytes()
    else:
        pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet("whole.parquet"))
    listed = (here / "p.unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["ash/1.png"]
    assert not partial.exists()
    assert not list(here.glob("*.parts"))
    refuses("predict", here, f"{words[0]} photos/test --output {out}", CONFIG, f"{out} exists")


def test_another_request_does_not_go_on(here, place, monkeypatch):
    write = output_module.Output.write

    def stopped(self, columns, *, done, unreadable=()):
        write(self, columns, done=done, unreadable=unreadable)
        raise KeyboardInterrupt

    run = place / "run"
    with monkeypatch.context() as patch:
        patch.setattr(output_module.Output, "write", stopped)
        call("predict", run, "photos/test", "--num-workers", "0", "--batch-size", "2")
    for words, key in (
        (f"{run} photos/test --no-calibrate", "temperature"),
        (f"{run} photos/test --prior uniform", "prior"),
        (f"{run} photos/train", "images"),
        (f"{place / 'cosine'} photos/test", "network"),
    ):
        begun = f"predictions.csv was begun with another {key}"
        refuses("predict", here, f"{words} --num-workers 0", CONFIG, begun)


def test_it_survives_being_killed(here, place):
    for seed in range(60):
        write_photo(here / "many" / f"{seed:02d}.png", seed, 0)
    words = ["predict", str(place / "run"), "many", "--num-workers", "0", "--batch-size", "1"]
    process, table = Command(here, *words), here / "predictions.csv"
    process.wait_for_lines(table, 5)
    assert process.send(signal.SIGKILL) == -signal.SIGKILL
    assert table.read_bytes().count(b"\n") < 61
    assert "going on after" in succeed(*words).out
    assert [row["file"] for row in read(table)] == [f"{seed:02d}.png" for seed in range(60)]
    succeed(*words, "--output", "again.csv")
    assert (here / "again.csv").read_bytes() == table.read_bytes()


def test_memory_does_not_grow_with_the_images(here, place, monkeypatch):
    """Whole batches are dropped as they are written: what is held at a time stays."""
    import weakref

    from ssl_lt.runs.inference import reading

    made, most = [], []
    make = reading.ReadImages

    def counted(*args, **kwargs):
        batch = make(*args, **kwargs)
        made.append(weakref.ref(batch))
        most.append(sum(one() is not None for one in made))
        return batch

    monkeypatch.setattr(reading, "ReadImages", counted)
    for seed in range(16):
        write_photo(here / "many" / f"{seed}.png", seed, 0)
    succeed("predict", place / "run", "many", "--num-workers", "0", "--batch-size", "2")
    assert len(most) == 8
    assert max(most) <= 3


def test_prior_is_that_of_the_formula(here, place):
    (here / "prior.csv").write_text("class,count\ncedar,6\nash,1\nbirch,3\n")
    asked = {"a": "as-trained", "u": "uniform", "t": "train", "f": "prior.csv"}
    for run, base in (("run", "uniform"), ("cosine", "train")):
        found = {}
        for key, prior in asked.items():
            out = f"{run}-{key}.csv"
            words = ["--prior", prior, "--top-k", "3", "--num-workers", "0", "--no-calibrate"]
            succeed("predict", place / run, "photos/test", "--output", out, *words)
            found[key] = [
                {row[f"class{e}"]: float(row[f"probability{e}"]) for e in ("", "_2", "_3")}
                for row in read(here / out)
            ]
        model = ssl_lt.load(place / run)
        counts = dict(zip(model.class_names, model.counts_per_class, strict=True))
        shares = {
            "u": dict.fromkeys(counts, 1),
            "t": counts,
            "f": {"cedar": 6, "ash": 1, "birch": 3},
        }
        trained = shares["u" if base == "uniform" else "t"]
        for key, share in shares.items():
            for plain, adjusted in zip(found["a"], found[key], strict=True):
                product = {c: plain[c] * share[c] / trained[c] for c in plain}
                total = sum(product.values())
                for c, value in product.items():
                    assert adjusted[c] == pytest.approx(value / total, rel=1e-4)


def test_temperature_is_said_and_fitted_on_what_is_asked_for(here, place):
    quiet = ("--num-workers", "0")
    raw = succeed("predict", place / "cosine", "photos/test", "--output", "a.csv", *quiet).out
    assert "probabilities are raw" in raw
    assert "--calibrate-on SOURCE" in raw
    said = succeed(
        "predict", place / "cosine", "photos/test", "--calibrate-on", "folder:photos",
        "--output", "b.csv", *quiet,
    ).out  # fmt: skip
    assert "fitted on 12 folder:photos, test images" in said
    kept = ssl_lt.load(place / "run").temperature
    assert kept.num_images == 3 + 2 + 1
    assert ssl_lt.load(place / "model").temperature == kept
    assert ssl_lt.load(place / "model" / "model.onnx").temperature == kept


@pytest.fixture
def pretrained(place, here):
    """A run without a classifier."""
    words = "--width 4 --batch-size 8 --epochs 1 --warmup-epochs 0 --num-workers 0 --knn-every 0"
    words += " --mixed-precision no --image-size 16 --run-dir pre"
    succeed("pretrain", *words.split(), "--data", "folder:photos")
    return here / "pre"


def test_a_run_without_a_classifier_is_refused_and_gives_features(pretrained, here):
    refuses("predict", here, "pre photos/test", CONFIG, "--run: pre has no classifier")
    model = ssl_lt.load("pre")
    x = torch.zeros(2, 3, 16, 16)
    assert model.features(x).shape == (2, 16)
    with pytest.raises(ssl_lt.UserError, match="pre has no classifier"):
        model(x)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("nowhere photos/test", CONFIG, "--run: nowhere is no run (no config.yaml in it)"),
        ("RUN", CONFIG, "--data: say which images"),
        ("RUN phots", CONFIG, "--data phots: unknown, did you mean"),
        ("RUN folder:phots", DATA, "phots: no such folder"),
        ("RUN photos/test --part test", CONFIG, "--part: photos/test has no parts"),
        ("RUN photos/test --output p.xlsx", CONFIG, "p.xlsx: .csv or .parquet can be written"),
        ("RUN photos/test --top-k 4", CONFIG, "--top-k: 4, and there are 3 classes"),
        ("RUN photos/test --prior even", CONFIG, "--prior: even is none of as-trained"),
        ("RUN photos/test --prior other.csv", DATA, "other.csv: has no class 'cedar'"),
        ("RUN photos/test --prior more.csv", DATA, "more.csv: has a class 'oak' more"),
        ("RUN photos/test --prior zero.csv", DATA, "zero.csv: line 2: count '0' is not a positive"),
        ("RUN photos/test --prior odd.csv", DATA, "odd.csv: needs the columns class and count"),
        ("RUN photos/test --calibrate-on folder:bare", DATA, "--calibrate-on: folder:bare: has no"),
        ("RUN photos/test --no-calibrate --calibrate-on digits", CONFIG, "--calibrate-on: has no"),
        ("RUN photos/test --calibrate-on digits", DATA, "class '0' is none of those of"),
        ("RUN photos/test --output there.csv", CONFIG, "there.csv exists and is never overwritten"),
        ("photos photos/test", CONFIG, "--run: photos is no run"),
        ("there.csv photos/test", CONFIG, "--run: there.csv is no run"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(here, place, words, code, says):
    (here / "other.csv").write_text("class,count\nash,1\nbirch,3\n")
    (here / "more.csv").write_text("class,prior\nash,1\nbirch,3\ncedar,2\noak,1\n")
    (here / "zero.csv").write_text("class,count\nash,0\nbirch,3\ncedar,2\n")
    (here / "odd.csv").write_text("name,number\nash,1\n")
    (here / "there.csv").write_text("file\n")
    write_photo(here / "bare" / "a.png", 0, 0)
    (here / "run").symlink_to(place / "run")
    words = words.replace("RUN", "run")
    refuses("predict", here, f"{words} --num-workers 0", code, says)
    keywords = {"run": words.split()[0], "num_workers": 0}
    rest = words.split()[1:]
    if rest and not rest[0].startswith("--"):
        keywords["data"] = rest.pop(0)
    while rest:
        flag = rest.pop(0).removeprefix("--").replace("-", "_")
        keywords[flag.removeprefix("no_")] = False if flag.startswith("no_") else rest.pop(0)
    with pytest.raises(ssl_lt.UserError) as error:
        ssl_lt.predict(**keywords)
    assert says in str(error.value)
    assert call("predict", *words.split(), "--num-workers", "0").err == [f"error: {error.value}"]


def test_a_format_without_its_library_is_refused(here, place, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name, *a: None if name in ("pyarrow", "onnxruntime") else find(name, *a),
    )  # fmt: skip
    for words, says in (
        (f"{place / 'run'} photos/test --output p.parquet", "pyarrow is not installed"),
        (f"{place / 'model/model.onnx'} photos/test", "onnxruntime is not installed"),
    ):
        refuses("predict", here, words, CONFIG, says)


def test_the_function_says_what_it_has_written(here, place):
    (here / "photos/test/ash/0.png").write_bytes(b"no image")
    found = ssl_lt.predict(run=place / "run", data="photos/test", output="p.csv", num_workers=0)
    assert (found.num_images, len(found.unreadable)) == (11, 1)
    assert found.unreadable[0][0] == "ash/0.png"
    assert found.temperature.num_images == 6
    assert found.group_rule.startswith("by thirds") or "count" in found.group_rule
    assert os.fspath(found) == "p.csv"


def test_an_older_run_without_the_file_is_still_understood(here, place):
    shutil.copytree(place / "run", here / "old")
    (here / "old" / "inference.json").unlink()
    (here / "old" / "calibration.json").unlink()
    said = succeed("predict", "old", "photos/test", "--num-workers", "0").out
    assert "probabilities are raw" in said
