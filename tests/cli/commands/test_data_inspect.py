"""`ssl-lt data inspect`, from a folder with every fault to the page."""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.report.browser import look
from tests.toolbox import call, refuses, succeed

CONFIG, DATA = 2, 3


def picture(seed, size=(24, 18)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    """A folder with a train and a test part, and a page of it: nothing here is changed."""
    place = tmp_path_factory.mktemp("inspected")
    train, test = place / "photos" / "train", place / "photos" / "test"
    for c, (name, count) in enumerate((("lynx", 30), ("owl & <b>", 8), ("wolf", 3))):
        for part, number in ((train, count), (test, 2)):
            (part / name).mkdir(parents=True)
            for i in range(number):
                picture(1000 * c + i + 500 * (part is test)).save(part / name / f"{i:02}.png")
    lynx, owl = train / "lynx", train / "owl & <b>"
    picture(0).save(lynx / "again.bmp")  # of 00.png, in another format
    picture(1).save(owl / "other.png")  # lynx/01.png under another class
    picture(2).save(test / "lynx" / "leak.png")
    picture(77).convert("L").save(lynx / "grey.jpg")
    Image.new("RGB", (9, 9), "white").save(lynx / "white.png")
    (owl / "empty.jpg").write_bytes(b"")
    (owl / "cut.png").write_bytes((lynx / "05.png").read_bytes()[:300])
    said = succeed("data", "inspect", f"folder:{place / 'photos'}", "--output", place / "page")
    return place / "page", said.out


def test_lists_hold_every_fault(inspected):
    folder, _ = inspected
    found = json.loads((folder / "index.json").read_text())
    train, test = found["parts"]
    assert train["num_images"] == 30 + 8 + 3 + 3 + 1 + 2
    assert train["counts_per_class"] == [33, 11, 3]
    assert test["counts_per_class"] == [3, 2, 2]
    assert found["imbalance_factor"] == 11
    assert [group["rule"][:3] for group in found["groups"]] == ["by ", "by "]
    assert found["groups"][0]["medium"] == [0]
    assert {entry["name"]: entry["problem"] for entry in train["unreadable"]} == {
        "owl & <b>/cut.png": "cannot be decoded: image file is truncated",
        "owl & <b>/empty.jpg": "empty file",
    }
    assert [entry["name"] for entry in train["grey"]] == ["lynx/grey.jpg"]
    assert [entry["name"] for entry in train["constant"]] == ["lynx/white.png"]
    assert train["sizes"] == [[[18, 24], 44], [[9, 9], 1]]
    assert train["modes"] == [["RGB", 44], ["L", 1]]
    copies = {
        each["content"]: [(image["part"], image["name"]) for image in each["images"]]
        for each in found["copies"]
    }
    assert [copies[content] for content in found["duplicates_in_train"]] == [
        [("train", "lynx/00.png"), ("train", "lynx/again.bmp")],
        [("train", "lynx/01.png"), ("train", "owl & <b>/other.png")],
    ]
    assert [copies[content][0][1] for content in found["conflicts"]] == ["lynx/01.png"]
    assert [copies[content] for content in found["leaks"]] == [
        [("train", "lynx/02.png"), ("test", "lynx/leak.png")]
    ]


def test_page_and_console_say_it(inspected):
    folder, said = inspected
    assert {path.name for path in folder.iterdir()} == {"index.html", "index.json"}
    page = (folder / "index.html").read_text()
    assert re.findall(r"https?://", page) == []
    # Two copies, one of them under two classes, a leak, a white one and a grey one.
    assert page.count("<img") == 2 + 1 + 1 + 1 + 1
    assert "<b>" not in page
    for text in ("Cannot be read: 2 pictures", "Trained on and tested on: 1 picture;"):
        assert text in page
        assert text in said
    assert "Under more than one class: 1 picture;" in said
    assert "Groups of classes" in said


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_page_opens_whole_and_quiet(inspected, width, scheme):
    seen = look(inspected[0] / "index.html", width=width, scheme=scheme)
    assert seen.console == seen.fetched == []
    assert max(seen.width, seen.spill) <= width
    assert len(seen.drawings) == 1
    assert len(seen.tables) >= 8
    assert len(seen.images) == 6
    for sizes in (*seen.tables, *seen.drawings, *seen.images):
        assert min(sizes) > 8


def test_pictures_without_labels(empty):
    (empty / "flat").mkdir()
    for i in range(4):
        picture(i).save(empty / "flat" / f"{i}.png")
    said = succeed("data", "inspect", "--data", "folder:flat").out
    assert "Groups" not in said
    found = json.loads((empty / "inspections" / "folder-flat" / "index.json").read_text())
    assert found["parts"][0]["num_unlabelled"] == 4
    assert "<figure>" not in (empty / "inspections" / "folder-flat" / "index.html").read_text()
    # Again: an earlier page is replaced.
    picture(9).save(empty / "flat" / "9.png")
    assert "5" in succeed("data", "inspect", "folder:flat").out
    assert [path.name for path in (empty / "inspections").iterdir()] == ["folder-flat"]


refused = partial(refuses, "data")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("look digits", CONFIG, "unknown command 'look', did you mean"),
        ("inspect digitz", CONFIG, "--data digitz: unknown, did you mean digits?"),
        ("inspect digits --data digits", CONFIG, "--data: digits is the data already"),
        ("inspect digits --outputs x", CONFIG, "unknown flag --outputs; did you mean --output?"),
        ("inspect", CONFIG, "--data: say which data, such as folder:photos"),
        ("split", CONFIG, "--data: say which data"),
        ("pack --output x", CONFIG, "--data: say which data"),
        ("inspect folder:nowhere", DATA, "nowhere: no such folder"),
        ("inspect digits --output taken", CONFIG, "--output: taken is not empty and has no index"),
        ("inspect digits --output taken/a", CONFIG, "--output: taken/a is a file"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(empty, words, code, says):
    (empty / "taken").mkdir()
    (empty / "taken" / "a").write_text("mine")
    refused(empty, words, code, says)


def test_help_names_the_commands():
    said = call("data", "--help").out
    assert all(f"\n  {name}" in said for name in ("inspect", "split", "pack"))
    assert "parquet" not in said
    for name in ("inspect", "split", "pack"):
        assert "a fifth" not in call("data", name, "--help").out  # nothing is held out
