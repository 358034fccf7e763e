"""`ssl-lt embed`: features with the digests of their files, and which images are alike."""

from __future__ import annotations

import csv
import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import ssl_lt
from ssl_lt.runs.inference import output as output_module
from tests.toolbox import call, refuses, succeed

pytestmark = pytest.mark.slow  # they train

CONFIG, DATA = 2, 3
QUIET = ("--num-workers", "0", "--batch-size", "5")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_features_are_those_of_the_network_with_names_and_digests(here, place):
    succeed("embed", place / "run", "photos/test", *QUIET)
    features, index = np.load("features.npy"), read(here / "features.csv")
    assert features.shape == (12, 16)
    assert features.dtype == np.float32
    model = ssl_lt.load(place / "run")
    for row, feature in zip(index, features, strict=True):
        file = here / "photos/test" / row["file"]
        assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        with Image.open(file) as image, torch.no_grad():
            wanted = model.features(model.transform(image)[None])[0]
        np.testing.assert_allclose(feature, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_parquet_holds_the_same_and_rows_may_have_length_one(here, place):
    succeed("embed", place / "run", "photos/test", *QUIET)
    succeed("embed", place / "run", "photos/test", *QUIET, "--normalise", "--output", "f.parquet")
    table, features = pd.read_parquet("f.parquet"), np.load("features.npy")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack(table["feature"]), unit, rtol=1e-5, atol=1e-6)
    index = read(here / "features.csv")
    assert table["file"].tolist() == [row["file"] for row in index]
    assert table["sha256"].tolist() == [row["sha256"] for row in index]


def test_neighbours_are_the_most_similar_others(here, place):
    shutil.copy(here / "photos/test/ash/0.png", here / "photos/test/birch/copy.png")
    found = ssl_lt.embed(
        init_from=place / "model", data="photos/test", output="f.npy", neighbours=3,
        near_duplicate=0.9999, num_workers=0,
    )  # fmt: skip
    features = np.load("f.npy")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    index = [row["file"] for row in read(here / "f.csv")]
    rows = read(found.neighbours)
    assert len(rows) == 3 * 13
    for i, name in enumerate(index):
        own = rows[3 * i : 3 * i + 3]
        assert {row["file"] for row in own} == {name}
        wanted = np.sort(cosines[i])[::-1][:3]
        assert [float(row["similarity"]) for row in own] == pytest.approx(wanted, abs=1e-5)
        assert name not in [row["neighbour"] for row in own]
        for row in own:
            marked = row["near_duplicate"] != ""
            assert marked == (float(row["similarity"]) >= 0.9999)
    pair = {"ash/0.png", "birch/copy.png"}
    same = [{row["file"], row["neighbour"]} for row in rows if row["near_duplicate"] == "same file"]
    assert same == [pair, pair]
    assert found.num_near_duplicates >= 2


def test_search_in_an_earlier_table_of_the_same_network(here, place):
    quiet = (*QUIET, "--neighbours", "2")
    for suffix in ("npy", "parquet"):
        bank = f"bank.{suffix}"
        succeed("embed", place / "run", "photos/train", *QUIET, "--output", bank)
        new = f"new-{suffix}.npy"
        succeed("embed", place / "model", "photos/test", *quiet, "--against", bank, "--output", new)
        rows = read(here / f"new-{suffix}.neighbours.csv")
        assert len(rows) == 2 * 12
        assert {row["neighbour"].split("/")[0] for row in rows} <= {"ash", "birch", "cedar"}
    assert read(here / "new-npy.neighbours.csv") == read(here / "new-parquet.neighbours.csv")
    refuses(
        "embed", here,
        f"{place / 'cosine'} photos/test --neighbours 2 --against bank.npy --output other.npy",
        CONFIG, "--against: bank.npy was made by another network",
    )  # fmt: skip


def test_a_table_goes_on_where_it_was_stopped(here, place, monkeypatch):
    (here / "photos/test/ash/1.png").write_bytes(b"no image")
    words = [place / "run", "photos/test", "--num-workers", "0", "--batch-size", "2"]
    succeed("embed", *words, "--output", "whole.npy")
    write = output_module.Output.write

    def stopped(self, columns, *, done, unreadable=()):
        if done > 6:
            raise KeyboardInterrupt
        write(self, columns, done=done, unreadable=unreadable)

    with monkeypatch.context() as patch:
        patch.setattr(output_module.Output, "write", stopped)
        assert call("embed", *words).code == 130
    succeed("embed", *words)
    assert (here / "features.npy").read_bytes() == (here / "whole.npy").read_bytes()
    assert (here / "features.csv").read_bytes() == (here / "whole.csv").read_bytes()
    assert (here / "features.unreadable.txt").read_text().startswith("ash/1.png\t")
    assert len(np.load("features.npy")) == 11


def test_weights_of_others_by_name_and_by_file(here):
    from safetensors.torch import save_file

    from ssl_lt.models.backbones import create_backbone

    network = create_backbone("resnet20_cifar", width=16, image_size=32)
    save_file(network.state_dict(), here / "weights.safetensors")
    words = "weights.safetensors photos/test --backbone resnet20_cifar --output a.npy"
    succeed("embed", *words.split(), *QUIET)
    assert np.load("a.npy").shape == (12, 64)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("nowhere photos/test", CONFIG, "--init-from: nowhere is no run, exported folder or"),
        ("RUN nowhere", CONFIG, "--data nowhere: unknown"),
        ("RUN photos/test --output f.csv", CONFIG, "f.csv: .npy or .parquet can be written"),
        ("RUN photos/test --output there.npy", CONFIG, "there.npy exists"),
        ("RUN photos/test --output half.npy", CONFIG, "half.csv exists"),
        (
            "RUN photos/test --against a.npy",
            CONFIG,
            "--against: has no effect without --neighbours",
        ),
        ("RUN photos/test --neighbours 2 --against a.npy", CONFIG, "a.npy is no table of ssl-lt"),
        ("RUN photos/test --neighbours 2 --against there.npy", DATA, "there.npy: "),
        ("RUN photos/test --neighbours 12", CONFIG, "--neighbours: 12, and there are 11 other"),
        ("RUN photos/test --near-duplicate 2", CONFIG, "--near-duplicate: 2.0 is outside"),
        ("RUN photos/test --backbone resnet18", CONFIG, "--backbone: run says itself which"),
        ("scratch photos/test", CONFIG, "--init-from: scratch has learned nothing"),
        ("MODEL/model.onnx photos/test", CONFIG, "model.onnx: gives logits and no features"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(here, place, words, code, says):
    (here / "there.npy").write_bytes(b"no table")
    (here / "half.csv").write_text("file\n")
    (here / "run").symlink_to(place / "run")
    (here / "model").symlink_to(place / "model")
    words = words.replace("RUN", "run").replace("MODEL", "model")
    refuses("embed", here, f"{words} --num-workers 0", code, says)
