"""Which files are taken for images."""

import pytest
from PIL import Image

from ssl_lt.data.images.formats import image_suffixes, is_image, is_junk, suffix_of
from ssl_lt.data.images.listing import list_images


@pytest.mark.parametrize(
    "suffix", ["jpg", "jfif", "jpe", "avif", "webp", "jp2", "tga", "pgm", "mpo"]
)
def test_what_pillow_reads_is_an_image(suffix):
    assert f".{suffix}" in image_suffixes()


@pytest.mark.parametrize("suffix", ["pdf", "mpg", "h5", "eps", "txt", "pcd"])
def test_what_it_does_not_read_is_none(suffix):
    assert f".{suffix}" not in image_suffixes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("name", ["scan", "IMG.0001", "photo.jpg_large", "a.jpg?w=100", "b.image"])
def test_without_a_known_suffix_the_first_bytes_say_it(tmp_path, kind, name):
    Image.new("RGB", (4, 4)).save(tmp_path / name, kind)
    assert is_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg~", "a.jpg.bak", "a.jpg_original", "a.jpg.part", "a.zip"])
def test_copies_and_archives_are_not_opened(tmp_path, name):
    Image.new("RGB", (4, 4)).save(tmp_path / name, "JPEG")
    assert not is_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.NEF", "a.dng", "a.CR2", "a.arw", "a.pef", "a.srw", "a.3fr"])
def test_raw_files_of_cameras_are_left_out_though_they_begin_as_tiff(tmp_path, name):
    Image.new("RGB", (4, 4)).save(tmp_path / name, "TIFF")
    assert not is_image(tmp_path / name)
    assert list_images(tmp_path).left_out == {suffix_of(name): 1}


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00\x01\x02" * 99, b"\x89PNG\r\n\x1a\n"])
def test_other_bytes_are_no_image(tmp_path, content):
    (tmp_path / "README").write_bytes(content)
    assert not is_image(tmp_path / "README")


def test_a_file_is_not_judged_by_its_bytes_where_its_suffix_is_known(tmp_path):
    (tmp_path / "a.jfif").write_bytes(b"damaged")  # and so it is named where it is read
    assert is_image(tmp_path / "a.jfif")


def test_junk_and_names_of_suffixes():
    names = ["._a.jpg", ".DS_Store", "Thumbs.db", "__MACOSX", "@eaDir", "a.jpg", "Desktop"]
    assert [is_junk(name) for name in names] == [True] * 5 + [False] * 2
    assert [suffix_of(name) for name in ("a.HEIC", "README", "a.")] == [
        ".heic",
        "without suffix",
        "without suffix",
    ]
