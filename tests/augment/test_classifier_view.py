from __future__ import annotations

import pytest
import torch
from scipy import stats

from ssl_lt.augment.autoaugment import AutoAugment
from ssl_lt.augment.classifier_view import ClassifierView, cut_black_square
from ssl_lt.augment.geometric import (
    horizontal_flip,
    random_crop_with_padding,
    random_flips,
)
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import ImageSpec

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def keys(count, view=0):
    return sample_keys(torch.arange(count), seed=1, epoch=2, view=view)


def noise(count, height=32, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).to(torch.uint8)


def view(size=32, cutout=16):
    return ClassifierView(
        ImageSpec(size, MEAN, STD), policy="cifar10", cutout=cutout, flip_probability=0.5
    )


def test_order_crop_flip_autoaugment_cutout_normalise():
    images, k = noise(64), keys(64)
    x = horizontal_flip(random_crop_with_padding(images, k), random_flips(k, 0.5))
    x = AutoAugment("cifar10")(x, k)
    x = cut_black_square(x, k, side=16).float() / 255
    want = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(view()(images, k), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_share_of_mirrored_views(share):
    images, k = noise(64), keys(64)
    made = ClassifierView(
        ImageSpec(32, MEAN, STD), policy="cifar10", cutout=16, flip_probability=share
    )(images, k)
    x = random_crop_with_padding(images, k)
    x = AutoAugment("cifar10")(x.flip(-1) if share else x, k)
    x = cut_black_square(x, k, side=16).float() / 255
    want = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(made, want, rtol=1e-6, atol=1e-6)


def test_after_crop_is_the_view_without_the_crop():
    images, k = noise(16), keys(16)
    crops = random_crop_with_padding(images, k)
    assert torch.equal(view().after_crop(crops, k), view()(images, k))


@pytest.mark.parametrize("size", [24, 48])
def test_images_of_another_size_are_resized(size):
    out = view(size=size, cutout=0)(noise(8, 40, 33), keys(8))
    assert out.shape == (8, 3, size, size)
    assert torch.isfinite(out).all()


def test_a_sample_does_not_depend_on_its_batch():
    images, k = noise(32), keys(32)
    assert torch.equal(view()(images, k)[5:9], view()(images[5:9], k[5:9]))


def test_views_differ():
    images = noise(16)
    assert not torch.equal(view()(images, keys(16)), view()(images, keys(16, view=1)))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 26)])
def test_cutout_equals_the_loop(height, width):
    images = torch.full((300, 3, height, width), 9, dtype=torch.uint8)
    out = cut_black_square(images, keys(300), side=8)
    places = []
    for picture in out:
        black = picture[0] == 0
        assert all(torch.equal(black, channel == 0) for channel in picture)
        candidates = []
        # The one centre that gives exactly these pixels.
        rows, columns = black.any(1).nonzero()[:, 0], black.any(0).nonzero()[:, 0]
        for y in range(height):
            same_rows = max(0, y - 4) == rows[0] and min(height, y + 4) == rows[-1] + 1
            for x in range(width) if same_rows else ():
                if max(0, x - 4) == columns[0] and min(width, x + 4) == columns[-1] + 1:
                    candidates.append((y, x))
        assert len(candidates) == 1
        assert black.sum() == len(rows) * len(columns)
        places.append(candidates[0])
    ys = torch.tensor([y for y, _ in places])
    cells = torch.bincount(ys * 4 // height, minlength=4)
    assert stats.chisquare(cells.numpy()).pvalue > 1e-4


def test_no_cutout_leaves_the_images_alone():
    images = noise(8)
    assert torch.equal(cut_black_square(images, keys(8), side=0), images)
