"""Images that cannot be read are found, left out and listed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.data.splits import unreadable as module
from ssl_lt.data.splits.train_split import choose_split
from ssl_lt.data.splits.unreadable import (
    BadImage,
    bad_images,
    find_bad_images,
    read_bad_images,
    readable,
    readable_split,
    write_bad_images,
)
from tests.data.own_pictures import draw, names, opened

SKIP = DataOptions(bad_images="skip")


@pytest.fixture
def photos(tmp_path):
    """Ten ants of which two are damaged, four bees of which one is, and a damaged test image."""
    for number in range(10):
        draw(tmp_path / "train/ant" / f"{number}.png", number)
    for number in range(4):
        draw(tmp_path / "train/bee" / f"{number}.png", number)
    draw(tmp_path / "test/ant/0.png")
    (tmp_path / "train/ant/3.png").write_bytes(b"no image")
    (tmp_path / "train/ant/7.png").write_bytes(b"")
    bee = tmp_path / "train/bee/1.png"
    bee.write_bytes(bee.read_bytes()[:-30])
    (tmp_path / "test/ant/1.png").write_bytes(b"no image")
    return tmp_path


def look(source, options=SKIP, listed=None):
    return bad_images(source, options, listed=listed)


def test_all_are_found_with_part_row_and_reason(photos):
    found = look(opened(f"folder:{photos}"))
    assert [(bad.part, bad.row, bad.name) for bad in found] == [
        ("train", 3, "ant/3.png"),
        ("train", 7, "ant/7.png"),
        ("train", 11, "bee/1.png"),
        ("test", 1, "ant/1.png"),
    ]
    assert [bad.reason for bad in found[:2]] == ["not an image", "empty file"]
    assert look(opened(f"folder:{photos}"), DataOptions()) == ()


def test_classes_are_counted_without_them(photos):
    source = opened(f"folder:{photos}")
    whole, found = source.train, look(source)
    split = choose_split(SKIP, source)
    assert split.counts_per_class == (10, 4)
    shorter = readable_split(split, source, found)
    assert shorter.counts_per_class == (8, 3)
    assert shorter.indices.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13]
    left = whole.take(shorter.indices)
    assert torch.bincount(left.labels).tolist() == [8, 3]
    for row in range(len(left)):
        left.read(row)
    # Of the whole set, which a split file was perhaps made from.
    assert shorter.data_sha256 == split.data_sha256
    assert names(readable(source.test, found, part="test")) == ["ant/0.png"]
    assert names(readable(whole, found, part="train")) == names(left)


def test_rows_that_were_not_chosen_do_not_count(photos):
    source = opened(f"folder:{photos}")
    split = choose_split(SKIP, source)
    few = replace(split, indices=np.array([13, 3, 0]), counts_per_class=(2, 1))
    shorter = readable_split(few, source, look(source))
    assert (shorter.indices.tolist(), shorter.counts_per_class) == ([13, 0], (1, 1))


def test_a_limit_ends_it(photos):
    source = opened(f"folder:{photos}")
    assert len(look(source, replace(SKIP, max_bad_images=4))) == 4
    with pytest.raises(DataError) as caught:
        look(source, replace(SKIP, max_bad_images=3))
    assert "more than 3 images cannot be read (--max-bad-images), the first is" in str(caught.value)
    assert "train image ant/3.png: not an image" in str(caught.value)


def test_a_class_without_any_is_an_error(photos):
    for number in (0, 2, 3):
        (photos / f"train/bee/{number}.png").write_bytes(b"")
    source = opened(f"folder:{photos}")
    split = choose_split(SKIP, source)
    with pytest.raises(DataError, match="class 'bee' has no image left that can be read"):
        readable_split(split, source, look(source))


def test_without_labels(photos):
    source = opened(f"folder:{photos}/train", label_column="none")
    split = choose_split(SKIP, source)
    shorter = readable_split(split, source, look(source))
    assert (len(shorter.indices), shorter.counts_per_class) == (11, ())


def test_the_list_of_a_run_takes_the_place_of_a_search(photos, tmp_path, monkeypatch):
    found = (
        BadImage("train", 2, 'a "b", c.png', "cannot be decoded"),
        BadImage("test", 0, "ü", ""),
    )
    write_bad_images(tmp_path / "run/bad_images.csv", found)
    assert read_bad_images(tmp_path / "run/bad_images.csv") == found
    monkeypatch.setattr(module, "describe_table", None)
    assert look(opened(f"folder:{photos}"), listed=tmp_path / "run/bad_images.csv") == found
    (tmp_path / "run/bad_images.csv").write_text("part,row\ntrain,x\n")
    with pytest.raises(DataError, match=r"bad_images\.csv: cannot be read"):
        look(opened(f"folder:{photos}"), listed=tmp_path / "run/bad_images.csv")


def test_processes_share_the_work_and_agree(photos, monkeypatch):
    source = opened(f"folder:{photos}")
    want = look(source)
    seen, shares = [], []

    def one_process(number):
        monkeypatch.setattr(module, "rank", lambda: number)
        monkeypatch.setattr(module, "world_size", lambda: 3)
        return look(source)

    # First each process's own finds, then what each makes of them all.
    describe = module.describe_table
    monkeypatch.setattr(
        module,
        "describe_table",
        lambda table, rows: (seen.append(len(rows)), describe(table, rows))[1],
    )
    monkeypatch.setattr(module, "gather_objects", lambda own: (shares.append(own), [own])[1])
    for number in range(3):
        one_process(number)
    assert sum(seen) == 14 + 2
    assert max(seen) == 5
    monkeypatch.setattr(module, "gather_objects", lambda own: shares)
    assert [one_process(number) for number in range(3)] == [want] * 3


def test_images_to_choose_by_that_are_not_there_are_left_out(photos):
    table = photos / "val.csv"
    options = replace(SKIP, data=f"folder:{photos}", val_data=f"csv:{table}", image_size=8)
    table.write_text("image,label\ntest/ant/0.png,ant\ntest/ant/nowhere.png,ant\n")
    data = open_data(options)
    table.write_text("image,label\ntest/ant/0.png,ant\n")
    without = open_data(options)
    assert data.sha256 == without.sha256
    assert len(data.validation) == 1


def test_pixels_in_memory_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(module, "describe_table", None)
    source = opened("digits")
    assert find_bad_images(source, limit=0) == ()
