"""Pictures that a JSON of COCO names, with one category each or a box each."""

import io
import json
import pickle

import pytest
from PIL import Image

from tests.data.own_pictures import draw, names, opened, reds, refusal

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 9, "name": "fox"}]


@pytest.fixture
def place(tmp_path):
    for number in range(10):
        draw(tmp_path / "img" / f"{number}.png", number)
    return tmp_path


def write(place, images=None, annotations=None, *, name="all.json", **more):
    """Ten images, six cats and four dogs, at three places."""
    content = {
        "info": {"year": 2020},
        "images": [
            {"id": n, "file_name": f"img/{n}.png", "width": 4, "location": n // 4}
            for n in range(10)
        ]
        if images is None
        else images,
        "categories": CATEGORIES,
        "annotations": [
            {"id": 50 + n, "image_id": n, "category_id": 7 if n < 6 else 3, "bbox": [1, 0, 2, 3]}
            for n in range(10)
        ]
        if annotations is None
        else annotations,
    } | more
    (place / name).write_text(json.dumps(content))
    return f"coco:{place / name}"


def changed(place, key, row, **fields):
    """The file with other fields in one of its entries, None for one that is not there."""
    content = json.loads((place / "all.json").read_text())
    content[key][row] |= fields
    content[key][row] = {k: v for k, v in content[key][row].items() if v is not None}
    (place / "all.json").write_text(json.dumps(content))
    return f"coco:{place / 'all.json'}"


def test_one_label_an_image(place):
    source = opened(write(place), hold_out=False)
    assert source.class_names == ("cat", "dog")
    assert reds(source.train) == list(range(10))
    assert source.train.labels.tolist() == [0] * 6 + [1] * 4
    assert "no image of fox: no class is made of that" in source.notes
    assert len(opened(write(place)).test) == 2  # a fifth of each class, as ever
    again = [{"image_id": 0, "category_id": 7}, *({"image_id": 1, "category_id": 3},) * 2]
    source = opened(write(place, annotations=again), hold_out=False)  # twice the same is one
    assert (reds(source.train), source.train.labels.tolist()) == ([0, 1], [0, 1])
    assert [(o.kind, o.place, o.count) for o in source.left_out] == [
        ("images", "without annotation", 8)
    ]


def test_parts_groups_and_roots(place, tmp_path_factory):
    images = [{"id": "a", "file_name": "img/1.png"}, {"id": "b", "file_name": "img/2.png"}]
    labels = [{"image_id": "a", "category_id": 7}, {"image_id": "b", "category_id": 3}]
    train = write(place, images, labels)
    images, labels = [{"id": 1, "file_name": "img/3.png"}], [{"image_id": 1, "category_id": 3}]
    test = write(place, images, labels, name="test.json")
    source = opened(train, test_data=test)
    assert (reds(source.train), reds(source.test)) == ([1, 2], [3])
    assert source.test.labels.tolist() == [1]
    elsewhere = tmp_path_factory.mktemp("meta")
    (place / "all.json").rename(elsewhere / "all.json")
    moved = opened(f"coco:{elsewhere}/all.json", data_root=str(place), hold_out=False)
    assert names(moved.train) == ["img/1.png", "img/2.png"]
    source = opened(write(place), hold_out=False, group_column="location")
    ids = source.train.group_ids
    assert (ids[:, None] == ids).tolist() == [
        [a // 4 == b // 4 for b in range(10)] for a in range(10)
    ]
    images = [
        {"id": n, "file_name": f"img/{n}.png", "split": "train" if n != 6 else "val"}
        for n in range(10)
    ]
    source = opened(write(place, images), hold_out=False)
    assert reds(source.test) == [6]
    assert source.places["test"] == "column 'split'"
    assert len(opened(write(place, images), hold_out=False, split_column="none").train) == 10
    images = [{"use": image.pop("split"), **image} for image in images]
    assert reds(opened(write(place, images), hold_out=False).test) == [6]


def test_other_labels_and_none(place):
    plants = [{"id": 7, "name": "a", "family": "x"}, {"id": 3, "name": "b", "family": "y"}]
    plants.append({"id": 4, "name": "c", "family": "x"})
    name = write(place, categories=plants)
    assert opened(name, hold_out=False, label_column="family").class_names == ("x", "y")
    assert refusal(name, label_column="genus").endswith(
        "its categories have no 'genus' (--label-column)"
    )
    source = opened(name, label_column="none")
    assert (source.class_names, len(source.train), source.test) == ((), 10, None)
    source = opened(write(place, annotations=[]))  # as iNaturalist publishes its test images
    assert (source.class_names, len(source.train)) == ((), 10)
    source = opened(write(place, categories=[{"id": 7}, {"id": 3}]), hold_out=False)
    assert source.class_names == ("3", "7")


def test_boxes_are_examples(place):
    wide = Image.new("RGB", (10, 6))
    wide.paste((200, 0, 0), (2, 1, 5, 4))
    wide.paste((100, 0, 0), (6, 0, 10, 6))
    wide.save(place / "img/wide.png")
    images = [{"id": 1, "file_name": "img/wide.png"}, {"id": 2, "file_name": "img/5.png"}]
    boxes = [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [2, 1, 3, 3]},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [0.5, 0, 2.2, 9]},
        {"id": 3, "image_id": 1, "category_id": 3, "bbox": [6, 0, 90, 6]},
        {"id": 4, "image_id": 2, "category_id": 3},
        {"id": 5, "image_id": 2, "category_id": 3, "bbox": [1, 1, 0, 2]},
    ]
    name = write(place, images, boxes)
    assert "has several labels, 'cat' and 'dog'" in refusal(name)
    source = opened(name, crop_boxes=True, hold_out=False)
    table = source.train
    assert names(table) == [
        "img/wide.png, box 2 1 5 4", "img/wide.png, box 6 0 96 6", "img/5.png, box 0 0 3 9",
    ]  # fmt: skip
    assert [table.read(row).size for row in range(3)] == [(3, 3), (4, 6), (3, 4)]
    assert reds(table) == [200, 100, 5]
    assert all(len(set(table.read(row).getdata())) == 1 for row in range(3))
    image = table.open(1)
    assert (image.width, image.height) == (4, 6)
    assert image.decode_half().size == (4, 6)
    assert table.labels.tolist() == [0, 1, 1]
    ids = table.group_ids.tolist()
    assert ids[0] == ids[1] != ids[2]
    assert [(o.place, o.count) for o in source.left_out] == [("without a box", 2)]
    assert table.fingerprint() != table.take(table.labels.numpy()).fingerprint()
    other = pickle.loads(pickle.dumps(table))
    assert other.content_sha256() == table.content_sha256()
    margin = opened(name, crop_boxes=True, crop_margin=0.34, hold_out=False).train
    assert names(margin)[0] == "img/wide.png, box 0 0 7 6"
    assert margin.fingerprint() != table.fingerprint()
    assert Image.open(io.BytesIO(table.encoded(1))).size == (4, 6)
    source = opened(name, crop_boxes=True, label_column="none")
    assert (len(source.train), source.class_names) == (3, ())
    found = opened(name, crop_boxes=True, hold_out=False, group_pattern=r"img/(.)[^/]*\.png$").train
    assert found.group_ids[0] == found.group_ids[1] != found.group_ids[2]
    outside = changed(place, "annotations", 0, bbox=[40, 0, 3, 3])
    table = opened(outside, crop_boxes=True, hold_out=False).train
    with pytest.raises(
        ValueError, match=r"wide.png, box 40 0 43 3: lies outside the 10 x 6 pixels"
    ):
        table.open(0)


def test_several_labels_an_image_are_refused(place):
    name = write(place)
    changed(place, "annotations", 1, image_id=8)
    changed(place, "annotations", 2, image_id=9)
    assert refusal(name) == (
        f"{name}: img/8.png has several labels, 'cat' and 'dog' (2 images have several): an image "
        "has one class here: keep one label, or give --label-column none; --crop-boxes makes an "
        "example of each box"
    )


@pytest.mark.parametrize(
    ("key", "row", "fields", "says"),
    [
        (
            "annotations",
            2,
            {"category_id": 8},
            "annotation 52 of img/2.png: there is no category 8",
        ),
        ("annotations", 2, {"category_id": None}, "annotation 52: has no category_id"),
        ("annotations", 2, {"image_id": 77}, "annotation 52: there is no image 77"),
        (
            "annotations",
            2,
            {"image_id": None, "id": None},
            "annotation 'number 3': has no image_id",
        ),
        ("annotations", 2, {"bbox": [1, 2, "x", 4]}, "annotation 52: its bbox is not left, top, w"),
        ("annotations", 2, {"bbox": [1, 2, 3]}, "annotation 52: its bbox is not left, top, width"),
        ("annotations", 2, {"bbox": [1, 2, 1e300, 4]}, "annotation 52: its bbox is not left, top"),
        ("images", 3, {"id": None}, "image number 4: has no id"),
        ("images", 3, {"id": [1]}, "image number 4: has no id"),
        ("images", 3, {"id": 2}, "two images have the same id"),
        ("images", 3, {"file_name": None}, "image number 4: has no file_name"),
        ("images", 3, {"file_name": " "}, "image number 4: has no file_name"),
        ("images", 3, {"file_name": "a\0b"}, "image number 4: 'a\\x00b' is no path"),
        ("images", 3, {"file_name": "\ud800"}, "image number 4: '\\ud800' is no path"),
        (
            "images",
            3,
            {"file_name": "img/2.png"},
            "image number 4: img/2.png comes twice, first in i",
        ),
        ("images", 3, {"file_name": "../2.png"}, "image number 4: ../2.png leaves the folder"),
        ("categories", 1, {"id": None}, "category number 2: has no id"),
        ("categories", 1, {"id": 7}, "category number 2: has the id 7 of another"),
    ],
)
def test_faults_are_named_in_a_line(place, key, row, fields, says):
    write(place)
    name = changed(place, key, row, **fields)
    assert refusal(name, crop_boxes="bbox" in fields).startswith(f"{name}: {says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes (line 1, column 2)"),
        (
            "[1, 2]",
            "is no JSON of COCO: an object with the lists images, categories and annotations",
        ),
        ("[" * 100_000, "is no JSON of COCO: nested too deeply"),
        ('{"images": [], "annotations": []}', "has no annotated image"),
        ('{"images": [3]}', "number 1 of images is no object"),
        ('{"images": [], "annotations": {}}', "annotations is no list"),
    ],
)
def test_what_is_no_coco_is_not_printed(place, text, says):
    (place / "bad.json").write_text(text)
    said = refusal(f"coco:{place}/bad.json")
    assert said.startswith(f"coco:{place}/bad.json: {says}")
    assert len(said) < 300


def test_files_that_are_not_there(place):
    said = refusal(f"coco:{place}/none.json")
    assert said == f"coco:{place}/none.json: no such file"
    name = write(place, data_root=None)
    (place / "img").rename(place / "other")
    assert f"image number 1: {place} has no file img/0.png (--data-root says" in refusal(name)
    assert "has no column 'seq' (--group-column), only id, file_name, width, location" in refusal(
        name, group_column="seq"
    )
    assert f"did you mean coco:{place}/all.json" in refusal(f"{place}/all.json")
