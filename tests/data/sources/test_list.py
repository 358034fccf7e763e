"""Pictures that a list of lines names, as the long-tailed benchmarks publish them."""

import pytest
import torch

from tests.data.own_pictures import draw, names, opened, refusal


@pytest.fixture
def photos(tmp_path):
    for name in ("train/n1/a.png", "train/n1/b.png", "train/n2/c d 7.png", "val/n2/e.png"):
        draw(tmp_path / "images" / name)
    return tmp_path


def write(place, *lines, name="train.txt"):
    (place / name).write_text("\n".join(lines) + "\n")
    return f"list:{place / name}"


TRAIN = ("train/n1/a.png 0", "train/n1/b.png 0", "train/n2/c d 7.png 1")


def test_paths_are_relative_to_the_data_root(photos):
    test = write(photos, "val/n2/e.png 1", name="test.txt")
    source = opened(write(photos, *TRAIN), data_root=photos / "images", test_data=test)
    assert source.class_names == ("0", "1")
    assert names(source.train) == ["train/n1/a.png", "train/n1/b.png", "train/n2/c d 7.png"]
    assert source.train.labels.tolist() == [0, 0, 1]
    assert source.test.labels.tolist() == [1]
    assert source.test.path(0).is_file()


def test_or_to_the_folder_of_the_list(photos):
    source = opened(write(photos / "images", *TRAIN))
    assert source.train.path(0).is_file()
    # A fifth of each class that has two.
    assert torch.bincount(source.train.labels).tolist() == [1, 1]
    assert source.test.labels.tolist() == [0]


def test_a_list_without_labels(photos):
    lines = [line.rsplit(" ", 1)[0] for line in TRAIN]
    source = opened(write(photos / "images", *lines))
    assert source.class_names == ()
    assert source.test is None
    assert names(source.train)[2] == "train/n2/c d 7.png"


def test_tabs_blank_lines_and_line_ends(photos):
    (photos / "images/t.txt").write_bytes(b"train/n1/a.png\t1\r\n\r\ntrain/n1/b.png  0 \r\n")
    source = opened(f"list:{photos}/images/t.txt", hold_out=False)
    assert source.train.labels.tolist() == [1, 0]
    assert names(source.train) == ["train/n1/a.png", "train/n1/b.png"]


def test_ten_comes_after_nine(photos):
    root = photos / "images"
    for label in range(11):
        draw(root / "many" / f"{label}.png")
    source = opened(write(root, *(f"many/{label}.png {label}" for label in range(11))))
    assert source.train.labels.tolist() == list(range(11))
    assert source.class_names[10] == "10"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([*TRAIN, "val/n2/e.png"], "line 4: has no label, line 1 has one"),
        (["val/n2/e.png", *TRAIN], "line 2: has a label, line 1 has none"),
        ([*TRAIN, TRAIN[1]], "line 4: train/n1/b.png comes twice, first in line 2"),
        ([*TRAIN, "../x.png 1"], "line 4: ../x.png leaves the folder"),
        ([*TRAIN, "val/n2/e.png 3"], "class '2' has no image"),
        ([*TRAIN, "val/n2/e.png 1000000000"], "line 4: label 1000000000 is too large"),
        (["", " "], "names no image"),
    ],
)
def test_lines_that_cannot_be_used(photos, lines, says):
    name = write(photos / "images", *lines)
    said = refusal(name)
    assert said.startswith(f"{name}: ")
    assert says in said


def test_a_test_list_need_not_have_every_class_but_no_other(photos):
    root = photos / "images"
    train = write(root, *TRAIN)
    test = write(root, "val/n2/e.png 2", name="test.txt")
    assert f"{test}: class '2' is not in {train}" in refusal(train, test_data=test)
    assert refusal(f"list:{root}/none.txt") == f"list:{root}/none.txt: no such file"
    assert f"did you mean list:{root}/train.txt?" in refusal(root / "train.txt")


def test_single_images_are_not_read_from_urls(photos):
    write(photos / "images", *TRAIN)
    says = "single images are not read from URLs: pack them into tar shards (--data wds:URLS)"
    for name in ("folder:s3://bucket/x", "csv:s3://bucket/x.csv", "list:https://host/x.txt"):
        said = refusal(name)
        assert said.startswith(f"{name}: {says}")
        assert said.endswith("or mount or copy the folder and give its path")
    for name in ("folder", "cifar10", f"list:{photos}/images/train.txt"):
        said = refusal(name, data_root="s3://bucket")
        assert said.startswith(f"--data-root s3://bucket: {says}")
    assert "did you mean wds:s3://bucket/x?" in refusal("s3://bucket/x")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("s3://bucket/1.png", "s3://bucket/1.png leaves the folder"),
        ("https://me:hunter2@host/1.png", "https://***@host/1.png leaves the folder"),
        ("https://host/1.png?X-Signature=hunter2", "https://host/1.png?*** leaves the folder"),
    ],
)
def test_urls_in_a_list_are_not_taken_for_paths(photos, path, says):
    said = refusal(write(photos / "images", "train/n1/a.png", path))
    assert f"line 2: {says}" in said
    assert "hunter2" not in said


def test_several_labels_at_the_end_of_a_line(photos):
    (photos / "several.txt").write_text("train/n0/a.png 3\ntrain/n0/b.png 3 5\n")
    said = refusal(f"list:{photos}/several.txt")
    assert "line 2: has several labels after train/n0/b.png: an image has one class here" in said
