"""Crops and flips against torchvision, image by image, and against the rule in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as pillow_functional
from torchvision.transforms.v2 import functional as tv

from ssl_lt.augment.geometric import (
    _BOX,
    crop_boxes,
    horizontal_flip,
    random_crop_with_padding,
    random_flips,
    resized_crop,
    to_unit,
)
from ssl_lt.core.random import sample_keys, uniform

MODES = {"bilinear": tv.InterpolationMode.BILINEAR, "bicubic": tv.InterpolationMode.BICUBIC}
RATIO = (3 / 4, 4 / 3)


def keys_of(count, *, view=0):
    return sample_keys(torch.arange(count), seed=3, epoch=1, view=view)


def smooth_images(count, height, width):
    """Photograph-like: random colours on a coarse grid, enlarged, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    x = x + 0.02 * torch.randn(x.shape, generator=generator)
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def box_by_hand(draws, height, width, scale):
    """torchvision's loop with the draws of one sample."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[attempt])
        low, high = math.log(RATIO[0]), math.log(RATIO[1])
        aspect = math.exp(low + (high - low) * draws[10 + attempt])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return [
                math.floor(draws[20] * (height - h + 1)),
                math.floor(draws[21] * (width - w + 1)),
                h,
                w,
            ]
    if width / height < RATIO[0]:
        h, w = round(width / RATIO[0]), width
    elif width / height > RATIO[1]:
        h, w = height, round(height * RATIO[1])
    else:
        h, w = height, width
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(32, 32, (0.1, 1.0)), (20, 100, (0.9, 1.0)), (100, 20, (0.3, 1.0)), (375, 500, (0.08, 1.0))],
)
def test_boxes_follow_the_rule_written_as_a_loop(height, width, scale):
    keys = keys_of(300)
    boxes = crop_boxes(keys, height, width, scale=scale)
    draws = uniform(keys, _BOX, 22).tolist()
    assert boxes.dtype == torch.int64
    assert boxes.tolist() == [box_by_hand(row, height, width, scale) for row in draws]


def test_the_fallback_is_central_and_within_the_ratio():
    keys = keys_of(50)
    # Scale near 1 on a very wide image: no draw fits.
    boxes = crop_boxes(keys, 20, 200, scale=(0.9, 1.0))
    assert boxes.unique(dim=0).tolist() == [[0, (200 - 27) // 2, 20, 27]]
    tall = crop_boxes(keys, 200, 20, scale=(0.9, 1.0))
    assert tall.unique(dim=0).tolist() == [[(200 - 27) // 2, 0, 27, 20]]


def test_boxes_of_many_sizes_at_once_equal_those_one_by_one():
    keys = keys_of(40)
    heights, widths = torch.arange(20, 60), torch.arange(90, 50, -1)
    together = crop_boxes(keys, heights, widths, scale=(0.2, 1.0))
    alone = [
        crop_boxes(keys[i : i + 1], int(heights[i]), int(widths[i]), scale=(0.2, 1.0))
        for i in range(40)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 90)])
def test_areas_aspects_and_places_are_distributed_as_torchvisions(height, width):
    count = 4000
    ours = crop_boxes(keys_of(count), height, width, scale=(0.1, 1.0)).double()
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, (0.1, 1.0), RATIO) for _ in range(count)]
    ).double()

    def statistics(boxes):
        top, left, h, w = boxes.unbind(1)
        return torch.stack([h * w / (height * width), (w / h).log(), top / height, left / width])

    a, b = statistics(ours), statistics(theirs)
    error = ((a.var(1) + b.var(1)) / count).sqrt()
    assert ((a.mean(1) - b.mean(1)).abs() < 4 * error).all()
    assert ((a.std(1) / b.std(1) - 1).abs() < 0.06).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (50, 37, 24), (150, 200, 32)])
def test_resized_crop_is_torchvisions_with_antialiasing(mode, height, width, size):
    count = 24
    x = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))
    # Too little contrast to overshoot: what is clipped after each axis is Pillow's test below.
    x = 0.3 + 0.4 * x
    keys = keys_of(count)
    boxes = crop_boxes(keys, height, width, scale=(0.02, 1.0))
    flips = random_flips(keys, 0.5)
    out = resized_crop(x, boxes, size=size, flips=flips, interpolation=mode)
    for i in range(count):
        expected = tv.resized_crop(x[i], *boxes[i].tolist(), [size, size], MODES[mode], True)
        expected = expected.flip(-1) if flips[i] else expected
        torch.testing.assert_close(out[i], expected.clamp(0, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (120, 90)])
def test_resized_crop_is_pillows_within_one_grey_level(mode, height, width):
    count, size = 100, 32
    images = smooth_images(count, height, width)
    boxes = crop_boxes(keys_of(count), height, width, scale=(0.08, 1.0))
    none = torch.zeros(count, dtype=torch.bool)
    ours = resized_crop(images, boxes, size=size, flips=none, interpolation=mode)
    ours = (ours * 255).round().numpy()
    for i in range(count):
        picture = Image.fromarray(images[i].permute(1, 2, 0).numpy())
        expected = pillow_functional.resized_crop(
            picture, *boxes[i].tolist(), [size, size], MODES[mode]
        )
        expected = np.asarray(expected, dtype=np.float32).transpose(2, 0, 1)
        assert np.abs(ours[i] - expected).max() <= 1


def test_uint8_and_float_images_give_the_same():
    images, keys = smooth_images(8, 30, 30), keys_of(8)
    boxes = crop_boxes(keys, 30, 30, scale=(0.2, 1.0))
    options = {"size": 16, "flips": random_flips(keys, 0.5), "interpolation": "bicubic"}
    a, b = resized_crop(images, boxes, **options), resized_crop(images / 255, boxes, **options)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_the_whole_image_at_its_own_size_comes_back_unchanged():
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    boxes = torch.tensor([[0, 0, 16, 16]] * 4)
    flips = torch.tensor([False, True, False, True])
    for mode in ("bilinear", "bicubic"):
        out = resized_crop(images, boxes, size=16, flips=flips, interpolation=mode)
        torch.testing.assert_close(out, horizontal_flip(to_unit(images), flips), rtol=0, atol=1e-6)


def test_padded_crop_is_torchvisions_for_the_same_offset():
    images = torch.randint(1, 256, (64, 3, 12, 10), dtype=torch.uint8)
    out = random_crop_with_padding(images, keys_of(64), padding=4)
    assert out.dtype == torch.uint8
    offsets = set()
    for image, crop in zip(images, out, strict=True):
        matches = [
            (top, left)
            for top in range(9)
            for left in range(9)
            if torch.equal(tv.crop(tv.pad(image, [4] * 4), top, left, 12, 10), crop)
        ]
        assert len(matches) == 1
        offsets.add(matches[0])
    assert len(offsets) > 30


def test_padded_crop_reaches_every_offset_alike():
    # Each pixel's value is its own place, so the offset can be read from the middle of the crop.
    columns = torch.arange(16, dtype=torch.uint8).expand(8000, 3, 16, 16).contiguous()
    offset = random_crop_with_padding(columns, keys_of(8000))[:, 0, 8, 8].long() - 8 + 4
    counts = torch.bincount(offset, minlength=9)
    assert counts.shape == (9,)
    assert ((counts - 8000 / 9).abs() < 4 * math.sqrt(8000 / 9)).all()


def test_half_of_the_samples_are_flipped():
    flips = random_flips(keys_of(10_000), 0.5)
    assert abs(flips.double().mean().item() - 0.5) < 0.02
    x = torch.rand(2, 3, 4, 5)
    out = horizontal_flip(x, torch.tensor([True, False]))
    assert torch.equal(out[0], tv.horizontal_flip(x[0]))
    assert torch.equal(out[1], x[1])
