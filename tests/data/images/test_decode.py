import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.decode import (
    AS_STORED,
    Decoding,
    EncodedImage,
    as_rgb,
    image_suffix,
    read_bytes,
)


@pytest.fixture
def grey():
    return np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def png(path, size, *, depth, colour, rows):
    """A PNG written by hand: Pillow writes no 16-bit colours."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def read_image(path, decoding=AS_STORED):
    return EncodedImage(read_bytes(path), name=str(path), decoding=decoding).decode()


def pixels_of(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


MODES = {
    "png": ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"),
    "tif": ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"),
    "jpg": ("L", "RGB", "CMYK", "YCbCr"),
    "webp": ("L", "RGB", "RGBA"),
    "gif": ("1", "L", "P"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "ppm": ("1", "L", "RGB", "I;16"),
}


@pytest.mark.parametrize(
    ("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes]
)
def test_every_mode_in_every_format_is_rgb(tmp_path, grey, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    if mode == "1":
        grey = np.where(grey > 127, 255, 0).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode in ("L", "P", "1", "LA"):
        image = Image.fromarray(grey).convert(mode)
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    assert image.mode == mode
    image.save(path)
    found = pixels_of(path).astype(int)
    tolerance = 24 if suffix in ("jpg", "webp") else 2
    assert found.shape == (8, 8, 3)
    assert np.abs(found - grey.astype(int)[..., None]).max() <= tolerance


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.array([[0, 128, 129, 257, 256 * 128, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert pixels_of(tmp_path / name)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_sixteen_bit_colours_are_scaled(tmp_path):
    rows = b"\0" + struct.pack(">6H", 65535, 256 * 128, 0, 257, 257 * 7, 40_000)
    png(tmp_path / "a.png", (2, 1), depth=16, colour=2, rows=rows)
    np.testing.assert_allclose(
        pixels_of(tmp_path / "a.png")[0].astype(int), [[255, 128, 0], [1, 7, 155]], atol=1
    )


def test_pixels_without_a_known_range_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif: cannot be decoded: floating-point"):
        read_image(tmp_path / "f.tif")
    Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match=r"i\.tif: cannot be decoded: 32-bit"):
        read_image(tmp_path / "i.tif")


def test_transparent_pixels_lie_on_white(tmp_path):
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    found = pixels_of(tmp_path / "a.png")[0].tolist()
    assert found == [[200, 0, 0], [255, 255, 255], [127, 127, 127]]


def test_a_transparent_palette_entry_lies_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert pixels_of(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = pixels_of(tmp_path / "a.jpg").reshape(-1, 3).mean(0)
    assert red[0] > 240
    assert red[1:].max() < 15


def test_the_exif_rotation_is_applied(tmp_path):
    upright = np.zeros((4, 6, 3), dtype=np.uint8)
    upright[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn by 90 degrees to the right
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png"), upright)


def test_the_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels_of(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif", "ppm"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused(tmp_path, suffix, kept):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match=rf"a\.{suffix}: ") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    for name, reason in (
        ("empty.png", "empty file"),
        ("text.png", "not an image"),
        ("none.png", "no such file"),
    ):
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of damaged TIFF tags
def test_changed_bytes_give_an_image_or_an_error_that_names_the_file(tmp_path):
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    messages = []
    for suffix in ("png", "jpg", "webp", "tif", "gif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(noise).save(path)
        good = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(30):
            bad = good.copy()
            bad[random.integers(0, min(len(bad), 200), 8)] = random.integers(0, 256, 8)
            path.write_bytes(bad.tobytes())
            try:
                assert read_image(path).mode == "RGB"
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > 50
    assert all(str(tmp_path / "a.") in message for message in messages)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    png(tmp_path / "bomb.png", (side, side), depth=8, colour=0, rows=b"")
    with pytest.raises(DataError, match=r"bomb\.png: .*pixels"):
        read_image(tmp_path / "bomb.png")


def test_the_pixel_limit(tmp_path):
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="10 x 10 pixels, at most 99 are allowed"):
        read_image(tmp_path / "a.png", Decoding(max_pixels=99))
    for limit in (100, 0):
        assert read_image(tmp_path / "a.png", Decoding(max_pixels=limit)).size == (10, 10)


def test_a_limit_above_pillows_own_reads_what_it_calls_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: more than 40 pixels .--max-image-mpix"):
        read_image(tmp_path / "a.png", Decoding(max_pixels=40))
    assert read_image(tmp_path / "a.png", Decoding(max_pixels=1000)).size == (10, 10)


def test_a_png_with_long_texts_is_read(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("history", "A" * 2_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=texts)
    assert read_image(tmp_path / "a.png").size == (4, 4)


# --- a range of values


def stored(path, values):
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "value_range", "want"),
    [
        (np.uint16, (0, 4095), [0, 0, 6, 128, 255, 255]),
        (np.int32, (-1024, 3072), [64, 64, 70, 191, 255, 255]),
        (np.float32, (0.0, 4095.0), [0, 0, 6, 128, 255, 255]),
        (np.uint16, (0, 65535), [0, 0, 0, 8, 16, 255]),
    ],
)
def test_a_value_range_is_mapped_and_cut_off(tmp_path, kind, value_range, want):
    values = np.array([[0, 1, 100, 2048, 4095, 65535]], dtype=kind)
    found = read_image(stored(tmp_path / "a.tif", values), Decoding(value_range))
    assert np.asarray(found)[0, :, 0].tolist() == want


def test_a_range_of_8_bits_is_for_images_of_8_bits(tmp_path):
    path = stored(tmp_path / "a.png", np.array([[0, 3, 15, 200]], dtype=np.uint8))
    found = np.asarray(read_image(path, Decoding((0, 15))))
    assert found[0, :, 1].tolist() == [0, 51, 255, 255]
    with pytest.raises(DataError, match=r"a\.png: .*has 8 bits a channel \(L\), for which --value"):
        read_image(path, Decoding((0, 4095)))


@pytest.mark.parametrize(
    ("kind", "high"),
    [("uint8", None), ("uint8", 80), ("uint16", None), ("uint16", 4095), ("int32", None),
     ("float32", 80)],
)  # fmt: skip
def test_an_open_image_is_decoded_as_its_file_is(tmp_path, kind, high):
    path, decoding = tmp_path / "a.tif", Decoding(None if high is None else (0.0, float(high)))
    values = np.array([[0, 90]], dtype=kind)
    Image.fromarray(values).save(path)
    wanted = np.asarray(read_image(path, decoding))
    np.testing.assert_array_equal(as_rgb(Image.open(path), decoding), wanted)
    np.testing.assert_array_equal(as_rgb(Image.fromarray(values), decoding), wanted)
    with pytest.raises(DataError, match=r"^image: has pixels that are no finite numbers"):
        as_rgb(Image.fromarray(np.float32([[np.nan]])), decoding)


def test_colours_of_16_bits_say_so(tmp_path):
    png(tmp_path / "a.png", (1, 1), depth=16, colour=2, rows=b"\0" + struct.pack(">3H", 4095, 1, 0))
    image = EncodedImage((tmp_path / "a.png").read_bytes(), name="a.png")
    assert image.mode == "RGB;16"
    assert image.deep_values().max() == 15 * 257
    with pytest.raises(DataError, match="has 16-bit colours"):
        read_image(tmp_path / "a.png", Decoding((0, 4095)))


def test_pixels_that_are_no_numbers_are_refused(tmp_path):
    path = stored(tmp_path / "a.tif", np.array([[0.5, np.nan]], dtype=np.float32))
    with pytest.raises(DataError, match=r"a\.tif: .*no finite numbers"):
        read_image(path, Decoding((0, 1)))


def test_a_suffix_is_that_of_the_format_and_not_of_the_name(tmp_path):
    for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"), ("bmp", "BMP")):
        Image.new("RGB", (4, 4)).save(tmp_path / "a.dat", kind)
        assert image_suffix((tmp_path / "a.dat").read_bytes(), name="a") == suffix
    for blob, says in ((b"", "a: empty file"), (b"nothing", "a: not an image")):
        with pytest.raises(DataError, match=says):
            image_suffix(blob, name="a")
