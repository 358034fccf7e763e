"""JPEGs that are decoded at half their size where the crops allow it, and the two ways to crop."""

import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lt.augment.views import LARGE_IMAGE_VIEW, WorkerCrop
from ssl_lt.core.errors import DataError
from ssl_lt.data.curate.describe import describe_image
from ssl_lt.data.images.crops import (
    CENTRE_FRACTION,
    centre_square,
    crop_encoded,
    crop_then_resize,
    storage_size,
)
from ssl_lt.data.images.decode import EncodedImage
from ssl_lt.data.loading.ordered import ordered_batches
from ssl_lt.data.loading.worker_loader import CutFiles
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.tables.decode_once import decode_once
from ssl_lt.data.tables.files import FileTable
from tests.toolbox import plain_spec

HEIGHT, WIDTH = 487, 651  # odd: the last pixels of the halved image are only partly covered
ORIENTATIONS = [None, *range(1, 9)]


def smooth(height=HEIGHT, width=WIDTH):
    """A picture without fine detail: what is lost at half the size was not there."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image, *, orientation=None, **options):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif, **options)
    return buffer.getvalue()


def encoded(blob):
    return EncodedImage(blob, name="a.jpg")


def mean_difference(first, second):
    return (first.float() - second.float()).abs().mean().item()


# --- what is decoded


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_size_in_the_header_is_that_of_the_upright_image(orientation):
    image = encoded(jpeg(smooth(30, 50), orientation=orientation))
    upright = image.decode()
    assert (image.width, image.height) == upright.size
    assert (image.height > image.width) == (orientation in (5, 6, 7, 8))


def test_sizes_of_formats_that_know_only_after_decoding():
    for kind in ("PNG", "TIFF", "WEBP"):
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        smooth(30, 50).save(buffer, kind, exif=exif)
        image = encoded(buffer.getvalue())
        assert (image.height, image.width) == (50, 30)
        assert image.decode_half().size == (30, 50)  # only JPEGs can be decoded smaller


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_pixel_at_half_size_is_about_the_mean_of_four(mode):
    blob = jpeg(smooth(160, 240).convert(mode))
    small = encoded(blob).decode_half()
    assert (small.mode, small.size) == ("RGB", (120, 80))
    means = EncodedImage(blob, name="a.jpg").decode().reduce(2)
    difference = np.abs(np.asarray(small, dtype=int) - np.asarray(means, dtype=int))
    assert difference.mean() < 1.5


@pytest.mark.parametrize("decode", [EncodedImage.decode, EncodedImage.decode_half])
def test_a_truncated_jpeg_is_refused_however_small_it_is_decoded(decode):
    blob = jpeg(smooth())
    with pytest.raises(DataError, match=r"\Aa\.jpg: cannot be decoded: [^\n]*truncated[^\n]*\Z"):
        decode(encoded(blob[: len(blob) // 2]))


# --- which crops allow it


@pytest.fixture
def halved(monkeypatch):
    """Whether each image was decoded at half its size."""
    seen, decode, half = [], EncodedImage.decode, EncodedImage.decode_half

    def whole(self):
        seen.append(False)
        return decode(self)

    def smaller(self):
        found = half(self)
        seen[-1] = True
        return found

    monkeypatch.setattr(EncodedImage, "decode", whole)
    monkeypatch.setattr(EncodedImage, "decode_half", smaller)
    return seen


@pytest.mark.parametrize(
    ("sides", "is_halved"), [([63], False), ([64], True), ([400], True), ([400, 63], False)]
)
def test_half_the_size_is_taken_where_no_box_is_then_enlarged(halved, sides, is_halved):
    boxes = [(0, 0, side, 400) for side in sides]
    assert crop_encoded(encoded(jpeg(smooth())), boxes, size=32).shape == (len(sides), 3, 32, 32)
    assert halved == [is_halved]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_places_are_found_again(orientation):
    rows, columns = np.indices((HEIGHT, WIDTH))
    ramps = np.stack([rows * 255 / HEIGHT, columns * 255 / WIDTH, 0 * rows], axis=2)
    slopes = np.array([255 / HEIGHT, 255 / WIDTH])  # grey levels from one pixel to the next
    size = 40
    blob = jpeg(Image.fromarray(ramps.round().astype(np.uint8)), orientation=orientation)
    image, whole = encoded(blob), EncodedImage(blob, name="a.jpg").decode()
    for side in (2 * size, 2 * size + 1):
        for top, left in ((0, 0), (image.height - side, image.width - side), (101, 57), (100, 56)):
            boxes = [(top, left, side, side)]
            smaller = crop_encoded(encoded(blob), boxes, size=size).float()
            full = crop_then_resize(whole, boxes, size=size).float()
            moved = (smaller - full).mean(dim=(2, 3))[0, :2].abs().numpy() / (2 * slopes)
            assert moved.max() < 1.1  # pixels of the result


def test_a_crop_at_half_size_looks_like_the_full_one():
    blob = jpeg(smooth(1500, 2000))
    boxes = [(100, 200, 900, 1000), (3, 5, 1490, 1990)]
    image = EncodedImage(blob, name="a.jpg").decode()
    smaller = crop_encoded(encoded(blob), boxes, size=224)
    assert mean_difference(smaller, crop_then_resize(image, boxes, size=224)) < 1
    # The measure sees a box that is off by two pixels of the result.
    moved = [(top, left + 9, height, width) for top, left, height, width in boxes]
    assert mean_difference(smaller, crop_then_resize(image, moved, size=224)) > 1


@dataclass(frozen=True)
class Whole:
    """All of an image."""

    filters = ("bicubic",)

    def boxes(self, epoch, index, sizes):
        return [[(0, 0, height, width)] for height, width in sizes]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(smooth(), orientation=6))
    return FileTable(tmp_path, np.array([b"a.jpg"]), torch.zeros(1, dtype=torch.int64))


def test_workers_decode_no_more_than_the_crop_needs(files, halved):
    images, _, _ = CutFiles(files, Whole(), plain_spec(50)).__getitems__([(0, 0)])
    assert halved == [True]
    whole = crop_then_resize(files.read(0), [(0, 0, WIDTH, HEIGHT)], size=50)
    assert mean_difference(images[0], whole) < 3


def test_what_is_tested_on_kept_or_compared_is_decoded_in_full(files, halved):
    image = files.read(0)
    (batch,) = ordered_batches(
        files, batch_size=1, spec=plain_spec(50), device=torch.device("cpu"), workers=Workers(0)
    )
    assert torch.equal(batch.images[0], centre_square(image, size=50, fraction=CENTRE_FRACTION))
    kept = decode_once(files, plain_spec(50), limit_mib=1).pixels
    assert torch.equal(kept[0], centre_square(image, size=storage_size(50)))
    found = describe_image(files, 0)
    assert (found.height, found.width) == (WIDTH, HEIGHT)
    assert not any(halved)


# --- how boxes are resized


def test_boxes_are_resized_as_pillow_does_to_a_grey_level():
    image = smooth()
    for box in ((20, 30, 300, 320), (0, 0, HEIGHT, WIDTH), (10, 10, 60, 70), (5, 7, 64, 200)):
        top, left, height, width = box
        alone = image.crop((left, top, left + width, top + height))
        pillow = np.asarray(alone.resize((64, 64), Image.Resampling.BICUBIC))
        found = crop_then_resize(image, [box], size=64)[0].permute(1, 2, 0).numpy()
        assert np.abs(found.astype(int) - pillow.astype(int)).max() <= 2


def test_what_lies_outside_a_box_weighs_nothing_and_around_the_centre_it_does():
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[10:30, 10:30] = 200
    image = Image.fromarray(pixels)
    assert (crop_then_resize(image, [(10, 10, 20, 20)], size=8) == 200).all()
    assert not (centre_square(image, size=8, fraction=0.5) == 200).all()


def test_random_crops_are_whole_pixels():
    (random,) = WorkerCrop((LARGE_IMAGE_VIEW,), seed=0).boxes(0, [3], [(300, 400)])
    assert all(type(edge) is int for box in random for edge in box)
