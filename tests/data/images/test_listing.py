"""Images below a folder, through links and around loops."""

import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.listing import LINK_BACK, list_images, loose_images, sub_folders
from tests.data.own_pictures import draw


def test_links_are_followed_at_any_depth(tmp_path):
    draw(tmp_path / "store" / "x" / "deep" / "1.png")
    draw(tmp_path / "store" / "other" / "2.png")
    draw(tmp_path / "cat" / "a" / "0.png")
    (tmp_path / "store" / "x" / "more").symlink_to("../other")  # a link behind a link
    (tmp_path / "cat" / "a" / "b").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "cat" / "a" / "3.png").symlink_to(tmp_path / "store" / "other" / "2.png")
    found = list_images(tmp_path / "cat")
    assert found.images == ["a/0.png", "a/3.png", "a/b/deep/1.png", "a/b/more/2.png"]
    assert not found.left_out


@pytest.mark.parametrize("to", [".", "..", "../..", "../../.."])
def test_links_back_lead_nowhere_and_are_counted(tmp_path, to):
    draw(tmp_path / "set" / "cat" / "a" / "1.png")
    draw(tmp_path / "set" / "dog" / "2.png")
    (tmp_path / "set" / "cat" / "a" / "back").symlink_to(to)
    found = list_images(tmp_path / "set" / "cat")
    assert found.images == ["a/1.png"]
    assert found.left_out == {LINK_BACK: 1}


def test_two_links_to_one_folder_list_it_once(tmp_path):
    draw(tmp_path / "store" / "1.png")
    draw(tmp_path / "cat" / "own" / "0.png")
    for name in ("a", "b"):
        (tmp_path / "cat" / name).symlink_to(tmp_path / "store")
    (tmp_path / "cat" / "c").symlink_to("own")  # what is not behind a link keeps its name
    assert list_images(tmp_path / "cat").images == ["a/1.png", "own/0.png"]


def test_two_folders_that_link_to_each_other(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        draw(tmp_path / name / f"{name}.png")
        (tmp_path / name / "other").symlink_to(tmp_path / other)
    assert list_images(tmp_path / "a").images == ["a.png", "other/b.png"]


def test_a_link_to_nothing_is_refused(tmp_path):
    draw(tmp_path / "set" / "cat" / "1.png")
    (tmp_path / "set" / "dog").symlink_to("/mnt/gone")
    with pytest.raises(DataError, match="dog: is a link to /mnt/gone, which is not there"):
        sub_folders(tmp_path / "set")
    (tmp_path / "set" / "cat" / "more").symlink_to("/mnt/gone")
    with pytest.raises(DataError, match="more: is a link to /mnt/gone"):
        list_images(tmp_path / "set" / "cat")


def test_an_image_that_links_to_nothing_is_met_where_it_is_read(tmp_path):
    (tmp_path / "a.png").symlink_to("gone.png")
    assert list_images(tmp_path).images == ["a.png"]


def test_what_is_left_out_is_counted_by_suffix(tmp_path):
    draw(tmp_path / "a" / "1.png")
    draw(tmp_path / "@eaDir" / "1.png" / "thumb.jpg")
    for name in ("a/1.HEIC", "2.heic", "notes", "._3.png", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"nothing")
    assert list_images(tmp_path).images == ["a/1.png"]
    assert list_images(tmp_path).left_out == {".heic": 2, "without suffix": 1}
    assert loose_images(tmp_path).images == []
    assert loose_images(tmp_path).left_out == {".heic": 1, "without suffix": 1}
