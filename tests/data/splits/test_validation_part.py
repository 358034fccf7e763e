"""What is chosen by: a part of the data, or another source."""

from __future__ import annotations

import io
import tarfile

import datasets
import pytest

from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_source
from tests.data.own_pictures import draw, opened, png, reds, refusal


@pytest.fixture
def photos(tmp_path):
    """Two classes in train, one of them in val and test."""
    for value, name in enumerate(("train/cat/1.png", "train/dog/2.png", "val/dog/3.png")):
        draw(tmp_path / "photos" / name, value)
    draw(tmp_path / "photos/test/cat/4.png", 3)
    return tmp_path / "photos"


def test_a_folder_of_three_parts(photos):
    source = opened(f"folder:{photos}")
    assert [reds(table) for table in (source.train, source.test, source.validation)] == [
        *([0, 1], [3], [2])
    ]
    assert source.validation.labels.tolist() == [1]
    assert opened(f"folder:{photos}", label_column="none").validation is None
    (photos / "test").rename(photos.parent / "elsewhere")
    source = opened(f"folder:{photos}")  # a single part is tested on
    assert reds(source.test) == [2]
    assert source.validation is None
    (photos / "val/bird").mkdir()
    draw(photos / "val/bird/5.png")
    (photos.parent / "elsewhere").rename(photos / "test")
    assert "photos/val: class 'bird' is not in folder:" in refusal(f"folder:{photos}")


@pytest.mark.parametrize("names", [("test", "val"), ("test", "validation"), ("val", None)])
def test_shards_of_three_parts(tmp_path, names, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for value, part in enumerate(("train", *filter(None, names))):
        with tarfile.open(tmp_path / f"{part}-0.tar", "w") as tar:
            for name, blob in ((f"{value}.png", png(value)), (f"{value}.cls", b"cat")):
                info = tarfile.TarInfo(name)
                info.size = len(blob)
                tar.addfile(info, io.BytesIO(blob))
    source = opened(f"wds:{tmp_path}")
    assert (reds(source.train), reds(source.test)) == ([0], [1])
    table = source.validation
    assert (None if table is None else reds(table)) == (None if names[1] is None else [2])


def test_a_hub_set_of_three_parts(tmp_path):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    parts = datasets.DatasetDict()
    for value, part in enumerate(("train", "validation", "test")):
        rows = {"image": [{"bytes": png(value), "path": None}], "label": [1]}
        parts[part] = datasets.Dataset.from_dict(rows, features=features)
    parts["train"] = datasets.concatenate_datasets(
        [parts["train"], datasets.Dataset.from_dict(
            {"image": [{"bytes": png(9), "path": None}], "label": [0]}, features=features)]
    )  # fmt: skip
    parts.save_to_disk(tmp_path / "set")
    source = opened(f"hf:{tmp_path}/set")
    assert (reds(source.test), reds(source.validation)) == ([2], [1])


def test_any_source_may_be_chosen_by(photos, tmp_path):
    draw(tmp_path / "own/dog/8.png", 8)
    own, three = f"folder:{tmp_path}/own", f"folder:{photos}"
    source = opened(three, val_data=own)
    assert reds(source.validation) == [8]
    assert reds(source.test) == [3]
    source = opened(three, val_data=own, test_data=own)
    assert reds(source.validation) == reds(source.test) == [8]
    (tmp_path / "list.csv").write_text("image,label\nown/dog/8.png,dog\nphotos/val/dog/3.png,cat\n")
    source = opened(f"csv:{tmp_path}/list.csv", val_data=three, hold_out=False)
    assert reds(source.validation) == [2]  # its validation part
    assert source.validation.labels.tolist() == [1]
    (photos / "test").rename(tmp_path / "elsewhere")
    assert reds(opened(f"csv:{tmp_path}/list.csv", val_data=three).validation) == [2]  # its test


def test_published_sets_may_be_chosen_by_something_else(tmp_path):
    draw(tmp_path / "own/7/8.png", 8)
    plain = open_source("digits", SourceOptions())
    source = open_source("digits", SourceOptions(val_data=f"folder:{tmp_path}/own"))
    assert plain.validation is None
    assert reds(source.validation) == [8]
    assert source.validation.labels.tolist() == [7]
    assert source.test.fingerprint() == plain.test.fingerprint()
    assert source.train.fingerprint() == plain.train.fingerprint()
    for name in ("mean", "std", "image_size", "imbalance_factor", "class_names"):
        assert getattr(source, name) == getattr(plain, name)


def test_images_are_held_out_for_testing_as_ever(photos, tmp_path):
    for value in range(10):
        draw(tmp_path / "own/dog" / f"{value}.png", value)
    (tmp_path / "v.csv").write_text("image,label\nphotos/val/dog/3.png,dog\n")
    plain = opened(f"folder:{tmp_path}/own")
    source = opened(f"folder:{tmp_path}/own", val_data=f"csv:{tmp_path}/v.csv")
    assert reds(source.test) == reds(plain.test)
    assert len(source.test) == 2
    assert reds(source.validation) == [2]


def test_classes_must_be_trained(photos, tmp_path):
    draw(tmp_path / "own/bird/8.png", 8)
    three, own = f"folder:{photos}", f"folder:{tmp_path}/own"
    assert refusal(three, val_data=own) == (
        f"--val-data {own}: class 'bird' is not in {three}, which has 'cat' that is not here"
    )
    assert refusal(three, val_data=own, label_column="none").startswith(f"--val-data {own}: ")
    assert "--val-data cifra10: unknown, did you mean cifar10?" in refusal(
        three, val_data="cifra10"
    )
    said = refusal(three, val_data="csv:https://me:hunter2@host/x.csv")
    assert "--val-data csv:https://***@host/x.csv: has credentials" in said
