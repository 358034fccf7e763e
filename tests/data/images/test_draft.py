"""JPEGs that are decoded smaller where the crops allow it."""

import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lt.augment.views import LARGE_IMAGE_VIEW, WorkerCrop
from ssl_lt.core.errors import DataError
from ssl_lt.data.images.crops import (
    CENTRE_FRACTION,
    CentreSquare,
    cut,
    cut_encoded,
    largest_shrink,
    shrunk_box,
    storage_size,
)
from ssl_lt.data.images.decode import Decoded, EncodedImage, decode_image
from ssl_lt.data.loading.ordered import ordered_batches
from ssl_lt.data.loading.worker_loader import CutFiles
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.tables.decode_once import decode_once
from ssl_lt.data.tables.look import look_at
from ssl_lt.data.tables.stored import StoredImage
from ssl_lt.data.tables.table import FileTable

HEIGHT, WIDTH = 487, 651  # no shrink divides them


def smooth(height=HEIGHT, width=WIDTH):
    """A picture without fine detail: what is drafted away was not there."""
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


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_size_in_the_header_is_that_of_the_upright_image(orientation):
    image = encoded(jpeg(smooth(30, 50), orientation=orientation))
    upright = image.decode().pixels
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
        whole = image.decode(shrink=2)  # only JPEGs can be decoded smaller
        assert (whole.shrink, whole.pixels.size) == (1, (30, 50))


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_shrunk_pixel_is_about_the_mean_of_those_it_stands_for(mode, shrink):
    blob = jpeg(smooth(160, 240).convert(mode))
    small = encoded(blob).decode(shrink=shrink)
    assert (small.shrink, small.pixels.mode) == (shrink, "RGB")
    assert small.pixels.size == (240 // shrink, 160 // shrink)
    means = decode_image(blob, name="a.jpg").reduce(shrink)
    difference = np.abs(np.asarray(small.pixels, dtype=int) - np.asarray(means, dtype=int))
    assert difference.mean() < 1.5


@pytest.mark.parametrize("shrink", [1, 2])
def test_a_truncated_jpeg_is_refused_however_small_it_is_decoded(shrink):
    blob = jpeg(smooth())
    with pytest.raises(DataError, match=r"\Aa\.jpg: cannot be decoded: [^\n]*truncated[^\n]*\Z"):
        encoded(blob[: len(blob) // 2]).decode(shrink=shrink)


# --- which boxes allow what


def test_the_shrink_leaves_every_box_its_pixels():
    for sides, shrink in (
        ([447], 1),
        ([448], 2),
        ([895], 2),
        ([896], 4),
        ([1792], 8),
        ([9000], 8),
        ([9000, 500], 2),
        ([9000, 223], 1),
    ):
        boxes = [(0, 0, side, 9000) for side in sides] + [(0, 0, 9000, sides[0])]
        assert largest_shrink(boxes, size=224) == shrink


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_no_box_is_enlarged_or_leaves_the_image_because_it_was_decoded_smaller(orientation):
    random = np.random.default_rng(orientation)
    for size in (31, 32):
        blob = jpeg(smooth(), orientation=orientation)
        image = encoded(blob)
        smaller = {s: encoded(blob).decode(shrink=s) for s in (1, 2, 4, 8)}
        for _ in range(500):
            height, width = (int(random.integers(size, n + 1)) for n in (image.height, image.width))
            top = int(random.integers(0, image.height - height + 1))
            left = int(random.integers(0, image.width - width + 1))
            box = (top, left, height, width)
            shrink = largest_shrink([box], size=size)
            decoded = smaller[shrink]
            assert decoded.shrink == shrink
            y, x, rows, columns = shrunk_box(box, decoded)
            assert min(rows, columns) >= size
            assert 0 <= y <= y + rows <= decoded.pixels.height
            assert 0 <= x <= x + columns <= decoded.pixels.width
            # Each corner within half a pixel of where it was.
            for edge, place, offset in (
                (y, top, decoded.top),
                (y + rows, top + height, decoded.top),
                (x, left, decoded.left),
                (x + columns, left + width, decoded.left),
            ):
                assert abs(edge - (place / shrink + offset)) <= 0.5


def test_a_box_of_the_image_as_it_is_stays_where_it_is():
    assert shrunk_box((3, 5, 40, 60), Decoded(smooth())) == (3, 5, 40, 60)


# --- what is cut


def ramps():
    """Red is the row and green the column of the stored image."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    return np.stack([rows * 255 / HEIGHT, columns * 255 / WIDTH, 0 * rows], axis=2)


# Grey levels from one row, and from one column, to the next.
SLOPES = np.array([255 / HEIGHT, 255 / WIDTH])


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_a_shrunk_pixel_lies_where_it_is_said_to_lie(orientation, shrink):
    blob = jpeg(Image.fromarray(ramps().round().astype(np.uint8)), orientation=orientation)
    small = encoded(blob).decode(shrink=shrink)
    whole = np.asarray(decode_image(blob, name="a.jpg"), dtype=float)
    found = np.asarray(small.pixels, dtype=float)
    for axis, offset in ((0, small.top), (1, small.left)):
        colour = 1 - axis if orientation in (5, 6, 7, 8) else axis  # the ramp along this axis
        inner = np.arange(2, found.shape[axis] - 2)
        # The middle of a pixel in the image, whose own pixels have theirs at 1/2.
        middles = (inner + 0.5 - offset) * shrink - 0.5
        ramp = whole.mean(axis=1 - axis)[:, colour]
        wanted = np.interp(middles, np.arange(len(ramp)), ramp)
        given = found.mean(axis=1 - axis)[inner, colour]
        off = (given - wanted).mean() / SLOPES[colour] / shrink
        assert abs(off) < 0.05


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_places_are_found_again(orientation, shrink):
    size = 40
    blob = jpeg(Image.fromarray(ramps().round().astype(np.uint8)), orientation=orientation)
    image = encoded(blob)
    whole = decode_image(blob, name="a.jpg")
    side = shrink * size + shrink - 1
    for top, left in ((0, 0), (image.height - side, image.width - side), (101, 57)):
        boxes = [(top, left, side, side)]
        assert largest_shrink(boxes, size=size) == shrink
        drafted = cut_encoded(encoded(blob), boxes, size=size).float()
        full = cut(whole, boxes, size=size).float()
        moved = (drafted - full).mean(dim=(2, 3))[0, :2].abs().numpy() / (shrink * SLOPES)
        assert moved.max() < 0.6  # pixels of the result


def test_a_drafted_crop_looks_like_the_full_one():
    blob = jpeg(smooth(1500, 2000))
    boxes = [(100, 200, 900, 1000), (3, 5, 1490, 1990)]
    image = decode_image(blob, name="a.jpg")
    drafted = cut_encoded(encoded(blob), boxes, size=224)
    assert mean_difference(drafted, cut(image, boxes, size=224)) < 1
    # The measure sees a box that is off by two pixels of the result.
    moved = [(top, left + 9, height, width) for top, left, height, width in boxes]
    assert mean_difference(drafted, cut(image, moved, size=224)) > 1


@dataclass(frozen=True)
class Whole:
    """All of an image, from whole numbers."""

    def boxes(self, epoch, index, sizes):
        return [[(0, 0, height, width)] for height, width in sizes]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(smooth(), orientation=6))
    return FileTable(tmp_path, np.array([b"a.jpg"]), torch.zeros(1, dtype=torch.int64))


@pytest.fixture
def shrinks(monkeypatch):
    """How much smaller than its file each image was decoded."""
    seen, decode = [], EncodedImage.decode

    def noted(self, *, shrink=1):
        seen.append(shrink)
        return decode(self, shrink=shrink)

    monkeypatch.setattr(EncodedImage, "decode", noted)
    return seen


def test_workers_decode_no_more_than_the_crop_needs(files, shrinks):
    images, _, _ = CutFiles(files, Whole(), size=50).__getitems__([(0, 0)])
    assert shrinks == [8]
    whole = cut(files.read(0), [(0, 0, WIDTH, HEIGHT)], size=50)
    assert mean_difference(images[0], whole) < 3


def test_what_is_tested_on_kept_or_compared_is_decoded_in_full(files, shrinks):
    image = files.read(0)
    (batch,) = ordered_batches(
        files, batch_size=1, image_size=50, device=torch.device("cpu"), workers=Workers(0)
    )
    boxes = [CentreSquare(CENTRE_FRACTION).box(image.height, image.width)]
    assert torch.equal(batch.images, cut(image, boxes, size=50))
    kept = decode_once(files, image_size=50, limit_mib=1).pixels
    square = [CentreSquare(1.0).box(image.height, image.width)]
    assert torch.equal(kept, cut(image, square, size=storage_size(50)))
    look = look_at(StoredImage("a.jpg", files.path(0)))
    assert (look.height, look.width) == (WIDTH, HEIGHT)
    assert set(shrinks) == {1}


# --- how whole boxes are resized


def test_whole_boxes_are_resized_as_pillow_does_to_a_grey_level():
    image = smooth()
    for box in ((20, 30, 300, 320), (0, 0, HEIGHT, WIDTH), (10, 10, 60, 70), (5, 7, 64, 200)):
        top, left, height, width = box
        alone = image.crop((left, top, left + width, top + height))
        pillow = np.asarray(alone.resize((64, 64), Image.Resampling.BICUBIC))
        found = cut(image, [box], size=64)[0].permute(1, 2, 0).numpy()
        assert np.abs(found.astype(int) - pillow.astype(int)).max() <= 2


def test_what_lies_outside_a_whole_box_weighs_nothing_and_around_a_fraction_it_does():
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[10:30, 10:30] = 200
    image = Image.fromarray(pixels)
    assert (cut(image, [(10, 10, 20, 20)], size=8) == 200).all()
    assert not (cut(image, [(10.0, 10.0, 20.0, 20.0)], size=8) == 200).all()


def test_random_crops_have_whole_boxes_and_centre_squares_fractions():
    (random,) = WorkerCrop(LARGE_IMAGE_VIEW, seed=0, num_views=2).boxes(0, [3], [(300, 400)])
    assert all(type(edge) is int for box in random for edge in box)
    for fraction, height, width in ((1.0, 64, 64), (CENTRE_FRACTION, 64, 96)):
        ((box,),) = CentreSquare(fraction).boxes(0, [0], [(height, width)])
        assert all(type(edge) is float for edge in box)
