"""Files that are named otherwise than they are."""

import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.data.tables.finder import FileFinder
from tests.data.own_pictures import draw


@pytest.fixture
def finder(tmp_path):
    for name in (
        "img/a.1.png",
        "img/B.JPG",
        "cat/1.png",
        "dog/2.png",
        "x/cafe\u0301.png",
        "._z.png",
    ):
        draw(tmp_path / "set" / name.replace(".JPG", ".png"))
    (tmp_path / "set" / "img" / "B.png").rename(tmp_path / "set" / "img" / "B.JPG")
    (tmp_path / "set" / "img" / "notes.txt").write_text("b")
    draw(tmp_path / "store" / "9.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "store")
    return FileFinder(tmp_path / "set")


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("img/a.1.png", "img/a.1.png"),
        ("a.1", "img/a.1.png"),
        ("b", "img/B.JPG"),
        ("IMG\\b.jpg", "img/B.JPG"),
        ("x/caf\u00e9", "x/cafe\u0301.png"),
        ("9", "linked/9.png"),
        ("img/notes.txt", "img/notes.txt"),
        # Nothing that fits: another folder, another suffix, a part of a name, no image, hidden.
        ("cat/2.png", "cat/2.png"),
        ("cat/2", "cat/2"),
        ("b.png", "b.png"),
        ("at/1.png", "at/1.png"),
        ("notes", "notes"),
        ("z", "z"),
    ],
)
def test_what_a_path_stands_for(finder, given, want):
    assert finder.find(given, where="line 2") == want


def test_a_file_in_this_very_case_comes_first(finder):
    draw(finder.root / "img" / "b.png")
    assert finder.find("b", where="line 2") == "img/b.png"


def test_two_files_are_refused(finder):
    draw(finder.root / "other" / "a.1.tif")
    with pytest.raises(
        DataError, match=r"line 2: a\.1 fits 2 files, img/a\.1\.png, other/a\.1\.tif"
    ):
        finder.find("a.1", where="line 2")


def test_what_was_found_is_told(finder):
    assert finder.notes == []
    for given in ("img/a.1.png", "b", "9", "gone"):
        finder.find(given, where="line 2")
    assert finder.notes == ["2 paths stand for the file that fits, as b for img/B.JPG"]
