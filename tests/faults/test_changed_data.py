"""Data that is damaged, odd, or no longer what a run was trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ssl_lt.core.errors import DataError
from ssl_lt.data.splits.split import read_split, write_split
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.parquet import open_parquet
from ssl_lt.data.tables.table import PixelTable
from tests.faults.hostile import bomb_png
from tests.toolbox import TINY, call, refuses, snapshot, succeed, write_picture

DATA, CHECKPOINT = 3, 4
WORDS = [*TINY, "--batch-size", "4", "--data", "folder:photos"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with pictures of three classes, one of a single picture, and a run that ended
    before it was exported."""
    place = tmp_path_factory.mktemp("begun")
    for number in range(20):
        write_picture(place / "photos" / "ab"[number % 2] / f"{number:02}.png", number)
    write_picture(place / "photos" / "c" / "alone.png", 99)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        succeed("pretrain", *WORDS, "--knn-every", "0", "--run-dir", "run")
    shutil.rmtree(place / "run" / "exported")
    return place


@pytest.fixture
def place(begun, tmp_path, monkeypatch):
    """A copy to change, as the working directory."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(run):
    """What a refused resume must leave alone."""
    return snapshot(run / "checkpoints") | {
        name: (run / name).read_bytes() for name in ("metrics.jsonl", "config.yaml", "split.json")
    }


def refuses_to_resume(place, code, says):
    before = kept(place / "run")
    outcome = call("pretrain", "--resume", "run")
    assert (outcome.code, len(outcome.err)) == (code, 1), outcome.err
    assert says in outcome.err[0]
    assert kept(place / "run") == before
    assert not (place / "run" / "exported").exists()
    return outcome


# --- the data has changed between save and resume


def trained_on(place):
    """A picture that the run was trained on."""
    rows = read_split(place / "run" / "split.json").indices
    assert len(rows) == 17  # two of each ten are held out, and the one of class c is not
    return place / "photos" / "a" / "00.png", place / "photos" / "a" / "02.png"


def test_the_same_data_elsewhere_goes_on(place):
    """Copied with other times; nothing is left to train, and the run is finished."""
    for path in (place / "photos").rglob("*.png"):
        path.touch()
    assert "finished: run" in succeed("pretrain", "--resume", "run").out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("added", "1 image added (a/more.png)"),
        ("removed", "1 image gone (a/00.png)"),
        ("renamed", "1 image added (a/zz.png), 1 image gone (a/00.png)"),
        ("moved", "1 image added (b/02.png), 1 image gone (a/02.png)"),
    ],
)
def test_another_set_of_files_is_refused(place, change, told):
    first, second = trained_on(place)
    if change == "added":
        shutil.copy(first, first.with_name("more.png"))
    elif change == "removed":
        first.unlink()
    elif change == "renamed":
        first.rename(first.with_name("zz.png"))
    else:
        shutil.move(second, place / "photos" / "b" / "02.png")
    outcome = refuses_to_resume(place, DATA, "run/split.json: was made from folder:photos with")
    assert outcome.err[0].endswith(f": {told}")


def test_another_picture_under_the_same_name_is_refused(place):
    for path in (place / "photos" / "a").iterdir():
        Image.new("RGB", (20, 24)).save(path)
    says = "run: folder:photos has other images than this run began with: 8 images of another size"
    refuses_to_resume(place, DATA, f"{says} (a/00.png, a/02.png, ")


def test_another_valid_split_is_refused(place):
    """Its digest is right, and it is not the one that the checkpoint was trained on."""
    path = place / "run" / "split.json"
    split = read_split(path)
    write_split(path, replace(split, indices=split.indices[::-1].copy()))
    refuses_to_resume(place, DATA, "the training images are not those that this run was trained on")


def test_an_edited_configuration_is_refused_with_what_differs(place):
    path = place / "run" / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("seed: 0", "seed: 3").replace("lr: 0.3", "lr: 0.2"))
    assert path.read_text() != text
    says = "checkpoint of another configuration: --split-seed 0 (now 3), --lr 0.3 (now 0.2), "
    refuses_to_resume(place, CHECKPOINT, says)


def test_what_does_no_harm_may_be_edited(place):
    path = place / "run" / "config.yaml"
    path.write_text(path.read_text().replace("keep-checkpoints: 2", "keep-checkpoints: 7"))
    succeed("pretrain", "--resume", "run")


def files(folder, sizes):
    names = []
    for number, size in enumerate(sizes):
        (folder / f"{number}.png").write_bytes(b"x" * size)
        names.append(f"{number}.png".encode())
    return FileTable(folder, np.array(names), torch.zeros(len(sizes), dtype=torch.int64))


def test_the_fingerprint_covers_names_sizes_labels_order_and_pixels(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    table = files(tmp_path / "one", [3, 4, 5])
    same = table.content_sha256()
    assert files(tmp_path / "two", [3, 4, 5]).content_sha256() == same  # the folder may move
    others = [
        files(tmp_path / "two", [3, 4, 6]),
        replace(table, labels=table.labels + 1),
        table.take(np.array([1, 0, 2])),
        table.take(np.array([0, 1])),
    ]
    pixels = PixelTable(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2).long())
    changed = pixels.pixels.clone()
    changed[1, 2, 3, 3] = 1
    others += [
        pixels,
        PixelTable(changed, pixels.labels),
        replace(pixels, labels=pixels.labels - 1),
    ]
    assert len({same, *(other.content_sha256() for other in others)}) == len(others) + 1
    (tmp_path / "one" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: no such file"):
        table.content_sha256()


# --- a split and the data disagree


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("counts_per_class", [9, 7, 1], "class a: counts_per_class says 9, rows are 8"),
        ("counts_per_class", [8, 8], "counts_per_class add up to 16, there are 17 indices"),
        ("counts_per_class", [8, 8, 0, 1], "class c: counts_per_class says 0, rows are 1"),
        ("num_rows", 18, "with 18 rows; the data here (folder:photos, 17 rows)"),
        ("data_sha256", "0" * 64, "has other rows, labels or another order"),
    ],
)
def test_a_split_that_disagrees_with_the_data_is_refused(place, field, value, says):
    path = place / "run" / "split.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    refuses_to_resume(place, DATA, says)


# --- odd sets


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_among_the_pictures_is_named(place):
    (place / "photos" / "a" / "00.png").write_bytes(bomb_png(10_000))
    words = " ".join([*WORDS, "--knn-every 0 --run-dir new"])
    refuses("pretrain", place, words, DATA, "photos/a/00.png: 10000 x 10000 pixels, at most")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("0\n3\n0\n", "row 0 (place 2) comes twice"),
        ("0\n17\n", "row 17 (place 1) is outside the 17 rows of the data"),
        ("-1\n", "row -1 (place 0) is outside"),
        ("0\n1\n", "has no row of class b"),
        ("", "has no rows"),
        ("1.5\n", "line 1: '1.5' is not a whole number"),
    ],
)
def test_a_list_of_rows_that_fits_no_data_is_refused(place, rows, says):
    (place / "rows.txt").write_text(rows)
    words = " ".join([*WORDS, "--split rows.txt"])
    refuses("pretrain", place, words, DATA, f"rows.txt: {says}" if "line" not in says else says)


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_without_a_class_is_refused(tmp_path, label):
    described = {"info": {"features": {"label": {"names": ["a", "b", "c"]}}}}
    images = pa.array([{"bytes": b""}] * 2, pa.struct([("bytes", pa.binary())]))
    table = pa.table({"img": images, "label": pa.array([0, label])})
    table = table.replace_schema_metadata({"huggingface": json.dumps(described)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"row 1 has label {label}, there are 3"):
        open_parquet([tmp_path / "a.parquet"], image_column="img", label_column="label", side=32)


def test_a_class_of_one_picture_is_trained_on_and_not_tested(place):
    words = [*WORDS, "--init-from", "scratch", "--loss", "rcl", "--run-dir", "tuned"]
    succeed("finetune", *words)
    results = json.loads((place / "tuned" / "results.json").read_text())
    assert results["data"]["counts_per_class"] == [8, 8, 1]
    accuracy = results["evaluations"][0]["accuracy"]
    assert accuracy["num_test_per_class"] == [2, 2, 0]
    assert accuracy["per_class"][2] is None
    assert 0 <= accuracy["balanced"] <= 1
