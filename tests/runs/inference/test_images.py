"""Which images a network is shown, as `ssl-lt predict` and `ssl-lt embed` are told."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssl_lt.core.errors import DataError, UserError
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.images.decode import AS_STORED, Decoding
from ssl_lt.data.loading.workers import Workers
from ssl_lt.runs.inference.facts import Facts
from ssl_lt.runs.inference.images import ImageOptions, find_images, labelled_images
from ssl_lt.runs.inference.model import TrainedModel
from ssl_lt.runs.inference.output import Output, PartsSink
from ssl_lt.runs.inference.priors import read_prior
from ssl_lt.runs.inference.reading import read_images
from tests.data.own_pictures import draw, names, reds
from tests.data.sources.test_hub import make
from tests.data.sources.test_webdataset import samples, shard


def images(data, **options):
    return find_images(ImageOptions(data=str(data), num_workers=0, **options), AS_STORED)


def refusal(data, **options) -> str:
    with pytest.raises(UserError) as caught:
        images(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """Sources whose test images have no labels: kind -> what --data takes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    values, tests = {"a": (1, 2), "b": (3, 4)}, (7, 8, 9)
    rows = [("image", "label", "split")]
    for name, its in values.items():
        for value in its:
            draw(tmp_path / "kaggle" / "train" / name / f"{value}.png", value)
            rows.append((f"train/{name}/{value}.png", name, "train"))
    for value in tests:
        draw(tmp_path / "kaggle" / "test" / f"{value}.png", value)
        rows.append((f"test/{value}.png", "", "test"))
    with (tmp_path / "kaggle" / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    shard(tmp_path / "tar" / "train-0.tar", samples([1, 2, 3, 4], "aabb"))
    shard(tmp_path / "tar" / "test-0.tar", samples(tests))
    parts = {"train": make([0, 1, 2], first=1), "test": make([-1] * 3, first=7)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "hub")
    return {
        "folder": f"folder:{tmp_path}/kaggle",
        "csv": f"csv:{tmp_path}/kaggle/all.csv",
        "wds": f"wds:{tmp_path}/tar",
        "hf": f"hf:{tmp_path}/hub",
    }


@pytest.mark.parametrize("kind", ["folder", "csv", "wds", "hf"])
@pytest.mark.parametrize("label_column", [None, "none"])
@pytest.mark.parametrize("part", ["auto", "test"])
def test_test_images_without_labels_are_taken(secret, kind, label_column, part):
    found = images(secret[kind], label_column=label_column, part=part)
    assert reds(found.table) == [7, 8, 9]
    assert found.table.labels.tolist() == [-1] * 3
    assert found.what == f"{secret[kind]}, test images"
    trained = images(secret[kind], label_column=label_column, part="train")
    assert 7 not in reds(trained.table)
    assert "has no validation images" in refusal(secret[kind], part="validation")


def test_test_images_lose_the_labels_that_are_not_wanted(tmp_path):
    for part, value in (("train", 1), ("test", 2)):
        draw(tmp_path / part / "a" / "1.png", value)
        draw(tmp_path / part / "b" / "1.png", value)
    found = images(f"folder:{tmp_path}", label_column="none")
    assert (reds(found.table), found.table.labels.tolist()) == ([2, 2], [-1, -1])


def test_test_images_under_training_images_without_labels(tmp_path):
    draw(tmp_path / "train" / "1.png", 1)
    draw(tmp_path / "test" / "a" / "1.png", 2)
    found = images(f"folder:{tmp_path}")
    assert (reds(found.table), found.table.labels.tolist()) == ([2], [-1])
    assert found.class_names == ()


def test_a_temperature_is_fitted_on_images_with_labels(secret):
    found = labelled_images(secret["folder"], ImageOptions(num_workers=0), AS_STORED)
    assert reds(found.table) == [1, 2, 3, 4]
    assert min(found.table.labels.tolist()) == 0
    assert found.class_names == ("a", "b")
    assert names(found.table)[0] == "a/1.png"


def test_the_transform_takes_the_range_of_training():
    spec = ImageSpec(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")
    twelve_bits = Image.fromarray(np.full((8, 8), 2048, np.uint16))
    for decoding, value in ((Decoding((0.0, 4095.0)), 128 / 255), (AS_STORED, 8 / 255)):
        model = TrainedModel(nn.Linear(1, 1), None, Facts(spec, decoding=decoding), name="x")
        assert model.transform(twelve_bits).unique().tolist() == pytest.approx([value])
    with pytest.raises(UserError, match="floating-point pixels"):
        model.transform(Image.fromarray(np.full((8, 8), 0.5, np.float32)))


def test_what_is_left_out_of_a_folder_is_said(tmp_path):
    draw(tmp_path / "new/sub/1.png", 1)
    for name in ("2.heic", "3.heic", "README"):
        (tmp_path / "new" / name).write_bytes(b"no image")
    assert images(tmp_path / "new").left_out == "2 .heic, 1 without suffix"
    (tmp_path / "new/sub/1.png").unlink()
    assert refusal(tmp_path / "new").endswith("new has no images, only 2 .heic, 1 without suffix")


@pytest.mark.parametrize("name", ["nope.jpg", "no/such", "x" * 300 + ".png"])
def test_a_file_that_is_not_there_is_said(name):
    said = refusal(name)
    assert said.startswith("--data: ")
    assert said.endswith(": no such file or folder")
    assert len(said) < 260
    assert "unknown, did you mean cifar10?" in refusal("cifra10")
    assert "unknown, did you mean" in refusal("x" * 300)


def test_reasons_are_listed_where_no_image_could_be_read(tmp_path):
    path = tmp_path / "p.parquet"
    output = Output(path, PartsSink(path, dict, lambda parts, path: None), {"network": "x"})
    output.write({"file": []}, done=1, unreadable=[("a.png", "empty file")])
    with pytest.raises(DataError, match=r"none of the images could be read, see .*unreadable\.txt"):
        output.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["p.unreadable.txt"]
    assert (tmp_path / "p.unreadable.txt").read_text() == "a.png\tempty file\n"


def test_the_prior_of_a_class_in_another_spelling(tmp_path):
    (tmp_path / "prior.csv").write_text("class,count\nKa\u0308fer,3\n", "utf-8")
    assert read_prior(tmp_path / "prior.csv") == {"K\u00e4fer": 3.0}


def test_parts_in_another_column_and_none(secret):
    table = secret["csv"].removeprefix("csv:")
    text = Path(table).read_text().replace("split", "use", 1)
    Path(table).write_text(text.replace(",test", ",testx", 1).replace(",train", ",testx", 1))
    assert "no part" in refusal(secret["csv"], split_column="use")
    assert len(images(secret["csv"], split_column="none", label_column="none").table) == 7


@pytest.mark.parametrize("value_range", [(), (0.0, 200.0)])
def test_boxes_are_images_of_their_own(tmp_path, value_range):
    draw(tmp_path / "a.png", 100)
    boxes = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [n, 0, 2, 3]} for n in (0, 1)]
    coco = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": boxes,
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    name = f"coco:{tmp_path}/boxes.json"
    found = images(name, crop_boxes=True, value_range=value_range)
    assert names(found.table) == ["a.png, box 0 0 2 3", "a.png, box 1 0 3 3"]
    spec = ImageSpec(size=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")
    (batch,) = read_images(
        found.table,
        spec,
        first=0,
        batch_size=2,
        device=torch.device("cpu"),
        workers=Workers(0),
    )
    assert batch.pixels[:, 0].unique().tolist() == [127 if value_range else 100]


def test_a_flag_may_be_for_the_images_of_calibrate_on_or_for_the_others(secret):
    options = {"label_column": "label", "num_workers": 0}
    folder, table = secret["folder"], secret["csv"]
    both = ImageOptions(data=folder, **options)
    assert find_images(both, AS_STORED, beside=[table]).what == f"{folder}, test images"
    assert labelled_images(table, both, AS_STORED).class_names == ("a", "b")
    other = ImageOptions(data=table, **options)
    assert labelled_images(folder, other, AS_STORED).class_names == ("a", "b")
    assert "--label-column: has no effect on" in refusal(folder, label_column="label")
