"""Data sets of Hugging Face, on the disk."""

import pickle
import sys

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.data.sources.hub import name_on_hub
from tests.data.own_pictures import draw, names, opened, png, reds, refusal


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What the library converts is written here."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def make(labels, *, first=0, class_names=("ant", "bee", "cat"), **columns):
    """Pictures with the values `first` and up."""
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(class_names))}
    features |= {name: datasets.ClassLabel(names=["x", "y"]) for name in columns}
    values = range(first, first + len(labels))
    rows = {"image": [{"bytes": png(v), "path": f"{v}.png"} for v in values], "label": labels}
    return datasets.Dataset.from_dict(rows | columns, features=datasets.Features(features))


LABELS = [0] * 6 + [1] * 3 + [2] * 2


@pytest.fixture
def kept(tmp_path):
    """The same pictures in every way they are kept: name -> argument of hf:."""
    train, test = make(LABELS), make([2, 0], first=100)
    places = {name: tmp_path / name for name in ("files", "single", "parts")}
    (places["files"] / "data").mkdir(parents=True)
    train.to_parquet(places["files"] / "data/train-00000-of-00001.parquet")
    test.to_parquet(places["files"] / "data/test-00000-of-00001.parquet")
    train.to_parquet(tmp_path / "train.parquet")
    train.save_to_disk(places["single"])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(places["parts"])
    arrow = next(places["single"].glob("*.arrow"))
    return places | {"parquet": tmp_path / "train.parquet", "arrow": arrow}


@pytest.mark.parametrize("name", ["files", "parts"])
def test_sets_with_a_test_part(kept, name):
    source = opened(f"hf:{kept[name]}")
    assert source.class_names == ("ant", "bee", "cat")
    assert source.train.labels.tolist() == LABELS
    assert reds(source.train) == list(range(11))
    assert source.test.labels.tolist() == [2, 0]
    assert reds(source.test) == [100, 101]
    assert (source.image_size, source.imbalance_factor) == (None, None)


@pytest.mark.parametrize("name", ["single", "parquet", "arrow"])
def test_sets_of_one_part_have_some_held_out(kept, name):
    source = opened(f"hf:{kept[name]}")
    assert torch.bincount(source.train.labels).tolist() == [5, 2, 1]
    assert torch.bincount(source.test.labels).tolist() == [1, 1, 1]
    assert sorted(reds(source.train) + reds(source.test)) == list(range(11))
    other = opened("digits", test_data=None)
    assert other.name == "digits"


def test_every_way_of_keeping_gives_the_same_fingerprint(kept):
    found = {opened(f"hf:{place}", hold_out=False).train.fingerprint() for place in kept.values()}
    assert len(found) == 1
    again = make(LABELS).select([1, 0, *range(2, 11)])
    again.save_to_disk(kept["single"].with_name("swapped"))
    swapped = opened(f"hf:{kept['single'].with_name('swapped')}", hold_out=False).train
    assert {swapped.fingerprint()} != found


def test_rows_are_named_and_travel_to_workers(kept):
    table = opened(f"hf:{kept['parts']}").train.take(np.array([7, 2]))
    assert (reds(table), table.labels.tolist()) == ([7, 2], [1, 0])
    assert names(table) == [f"hf:{kept['parts']}, train, row {row}" for row in (7, 2)]
    assert reds(pickle.loads(pickle.dumps(table))) == [7, 2]


def test_a_folder_of_images_as_the_library_reads_it(tmp_path):
    for part, number in (("train", 3), ("test", 4)):
        for name in ("ant", "bee"):
            draw(tmp_path / "pictures" / part / name / f"{name}{number}.png", number)
    source = opened(f"hf:{tmp_path / 'pictures'}")
    assert source.class_names == ("ant", "bee")
    assert (reds(source.train), reds(source.test)) == ([3, 3], [4, 4])


def test_plain_parquet_without_a_description(tmp_path):
    for labels in (["y", "x", "y"], [7, 5, 7]):
        rows = {"photo": [png(v) for v in range(3)], "label": labels}
        pq.write_table(pa.table(rows), tmp_path / "plain.parquet")
        said = refusal(f"hf:{tmp_path}/plain.parquet")
        assert "none of its columns (photo, label) is named image" in said
        source = opened(f"hf:{tmp_path}/plain.parquet", image_column="photo", hold_out=False)
        assert source.class_names == tuple(sorted({str(label) for label in labels}))
        assert source.train.labels.tolist() == [1, 0, 1]
        assert reds(source.train) == [0, 1, 2]


def test_columns_of_labels(tmp_path):
    two = make([0, 1, 0], class_names=("ant", "bee"), coarse=[1, 0, 0])
    two = two.rename_column("label", "fine")
    two.save_to_disk(tmp_path / "two")
    said = refusal(f"hf:{tmp_path}/two")
    assert "has labels in fine, coarse: say which with --label-column" in said
    source = opened(f"hf:{tmp_path}/two", label_column="coarse", hold_out=False)
    assert source.train.labels.tolist() == [1, 0, 0]
    assert opened(f"hf:{tmp_path}/two", label_column="none").class_names == ()
    said = refusal(f"hf:{tmp_path}/two", label_column="course")
    assert "has no column 'course' (--label-column), only image, fine, coarse" in said


def test_a_test_part_with_secret_labels_gives_way_to_validation(tmp_path):
    parts = {"train": make([0, 1, 2]), "validation": make([1], first=50), "test": make([-1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "secret")
    assert reds(opened(f"hf:{tmp_path}/secret").test) == [50]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"train": make([0, 2])}, "class 'bee' has no image"),
        ({"train": make([0, -1, 2])}, "train: row 1: no label in column 'label'"),
        ({"a": make([0]), "b": make([0])}, "has no part named train, only a, b"),
        (
            {"train": make([0, 1, 2]), "test": make([0], class_names=["wasp", "bee", "cat"])},
            "test: class 'wasp' is not in ",
        ),
        (
            {"train": datasets.Dataset.from_dict({"image": [1.5], "label": [[0, 1]]})},
            "column 'label' holds List",
        ),
        ({"train": datasets.Dataset.from_dict({"image": [1.5]})}, "holds double, not images"),
    ],
)
def test_sets_that_cannot_be_used(tmp_path, parts, says):
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "bad")
    said = refusal(f"hf:{tmp_path}/bad")
    assert said.startswith((f"hf:{tmp_path}/bad: ", f"hf:{tmp_path}/bad, "))
    assert says in said


def test_damaged_files_and_images(tmp_path, capfd):
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    assert refusal(f"hf:{tmp_path}/junk.parquet").startswith(
        f"hf:{tmp_path}/junk.parquet: cannot be loaded: "
    )
    assert capfd.readouterr().err == ""
    assert refusal(f"hf:{tmp_path}/none") == f"hf:{tmp_path}/none: no such file or folder"
    blobs = [png(1), png(2)[:40], None]
    rows = {"image": pa.array(blobs, pa.binary()), "label": ["x", "x", "x"]}
    pq.write_table(pa.table(rows), tmp_path / "cut.parquet")
    table = opened(f"hf:{tmp_path}/cut.parquet", hold_out=False).train
    assert table.read(0).size == (4, 4)
    with pytest.raises(DataError, match=r"cut\.parquet, train, row 1: not an image"):
        table.read(1)
    with pytest.raises(DataError, match=r"cut\.parquet, train, row 2: has no image"):
        table.read(2)


def test_the_hub_is_asked_for_names_that_are_no_paths(monkeypatch):
    asked = []

    def absent(name, configuration):
        asked.append((name, configuration))
        raise ConnectionError("Couldn't reach it\non the Hub")

    monkeypatch.setattr(datasets, "load_dataset", absent)
    said = refusal("hf:someone/things:small")
    assert said == "hf:someone/things:small: cannot be loaded: Couldn't reach it on the Hub"
    refusal("hf:things")
    assert asked == [("someone/things", "small"), ("things", None)]


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    said = refusal("hf:things")
    assert said == (
        "--data hf:things: Hugging Face datasets is not installed: pip install datasets"
    )


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "a/b/c", "./x", "some/x.parquet"])
def test_what_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert refusal(f"hf:{name}") == f"hf:{name}: no such file or folder"


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.tar"])
def test_files_of_other_kinds_are_refused_at_once(tmp_path, monkeypatch, name):
    monkeypatch.setattr(datasets, "load_dataset", None)
    (tmp_path / name).write_text("{}")
    assert "is no folder and no parquet or Arrow file: csv:FILE" in refusal(f"hf:{tmp_path}/{name}")


def test_test_rows_that_are_trained_on_are_said(tmp_path):
    rows = {"image": [png(v) for v in range(3)], "label": ["x", "y", "y"]}
    rows |= {"split": ["train", "train", "test"]}
    pq.write_table(pa.table(rows), tmp_path / "all.parquet")
    (note,) = opened(f"hf:{tmp_path}/all.parquet", hold_out=False).notes
    assert "'split' is not read: rows of 'test' are trained on like all others" in note


def test_parts_under_other_names_and_what_belongs_to_none(tmp_path):
    parts = {"training": make([0, 1, 2]), "dev": make([1], first=50), "extra": make([0, 0])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    source = opened(f"hf:{tmp_path}/set")
    assert (reds(source.train), reds(source.test)) == ([0, 1, 2], [50])
    assert [(one.place, one.count) for one in source.left_out] == [("part 'extra'", 2)]
    assert source.labels_from == "column 'label'"


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([["a", "b"], ["a"], ["b"]], "not a name or number an image: an image has one class here"),
        (["a|b", "a", "b"], "row 0: label 'a|b' names several classes, parted by '|'"),
        (["a", "nan", "b"], "row 1: label 'nan' stands for none"),
        (["a", "", "b"], "row 1: no label in column 'label'"),
    ],
)
def test_several_labels_an_image_and_none(tmp_path, labels, says):
    rows = {"image": [png(v) for v in range(3)], "label": labels}
    pq.write_table(pa.table(rows), tmp_path / "plain.parquet")
    assert says in refusal(f"hf:{tmp_path}/plain.parquet")


def test_several_labels_in_the_name_of_a_class(tmp_path):
    make([0, 1, 2], class_names=("a", "b", "a|b")).to_parquet(tmp_path / "set.parquet")
    said = refusal(f"hf:{tmp_path}/set.parquet")
    assert "row 2: label 'a|b' names several classes, parted by '|'" in said


def test_names_on_the_hub_are_told_from_paths(tmp_path):
    assert name_on_hub("hf:org/set:small") == "org/set"
    (tmp_path / "org/set").mkdir(parents=True)
    assert name_on_hub("hf:org/set", near=[tmp_path]) is None
    for other in (
        "hf:mnist",
        "hf:/data/set",
        "hf:./set",
        "hf:a/b/c",
        "hf:set/a.parquet",
        "csv:a/b",
    ):
        assert name_on_hub(other) is None
