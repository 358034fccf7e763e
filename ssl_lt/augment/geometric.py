"""Crops and flips of a whole batch, each sample with parameters of its own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lt.augment.resampling import on_host, resampling_matrix
from ssl_lt.core.random import draw_id, uniform
from ssl_lt.core.types import Interpolation

_BOX = draw_id("crop box")
_FLIP = draw_id("flip")
_SHIFT = draw_id("padded crop")
_ATTEMPTS = 10


def crop_boxes(
    keys: Tensor,
    heights: Tensor | int,
    widths: Tensor | int,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Boxes of a random resized crop, by torchvision's rule.

    Ten times an area is drawn from U(scale) · H · W and an aspect ratio w/h from exp(U(log ratio)).
    The first of these boxes that fits is taken, at a uniform position. If none fits: the largest
    central box whose aspect ratio lies within `ratio`.

    Args:
        keys: (B,) int64 from `sample_keys`.
        heights: of the images in pixels, one for all or (B,).
        widths: like `heights`.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width / height.

    Returns:
        (B, 4) int64: top, left, height, width.
    """
    extent = torch.stack((_one_a_sample(heights, keys), _one_a_sample(widths, keys)), dim=1)
    height, width = torch.split(extent, 1, dim=1)
    draws = uniform(keys, _BOX, 2 * _ATTEMPTS + 2).double()
    area_draw, ratio_draw, place_draw = torch.split(draws, [_ATTEMPTS, _ATTEMPTS, 2], dim=1)

    low, high = (math.log(bound) for bound in ratio)
    area = (height * width) * (scale[0] + (scale[1] - scale[0]) * area_draw)
    aspect = torch.exp(low + (high - low) * ratio_draw)
    # Heights and widths are the two columns of what follows.
    tried = torch.stack((area / aspect, area * aspect), dim=2).sqrt_().round_()
    fits = ((tried > 0) & (tried <= extent[:, None])).all(dim=2, keepdim=True)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    box = tried.gather(1, first.expand(-1, -1, 2))[:, 0]
    one_fits = fits.gather(1, first)[:, 0]

    central = torch.cat((width / ratio[0], height * ratio[1]), dim=1).round_()
    box = torch.where(one_fits, box, torch.minimum(extent, central))
    # A central box has no random place: one half of the free pixels, rounded down.
    free = extent - box
    place = torch.where(one_fits, place_draw * (free + 1), free / 2)
    return torch.cat((place, box), dim=1).to(torch.int64)


def random_flips(keys: Tensor, probability: float) -> Tensor:
    """(B,) bool: which samples are mirrored, each with this probability."""
    return uniform(keys, _FLIP)[:, 0] < probability


def horizontal_flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirrors the samples of (B, 3, H, W) that `flips` (B,) names."""
    mask = flips[:, None, None, None]
    if not on_host(images):
        return torch.where(mask, images.flip(-1), images)
    # As exact, and here several times as fast as a choice under a mask that is broadcast.
    mirrored = mask.to(images.dtype)
    return images.flip(-1).mul_(mirrored).add_(images * (1 - mirrored))


def to_unit(images: Tensor) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1] from uint8; float images keep their values."""
    x = images.to(torch.float32)
    return x if images.is_floating_point() else x.mul_(1 / 255)


def resized_crop(
    images: Tensor,
    boxes: Tensor,
    *,
    size: int,
    flips: Tensor,
    interpolation: Interpolation,
) -> Tensor:
    """Cuts a box from each image, resizes it with antialiasing and mirrors it where asked.

    As in Pillow, columns come first and bicubic overshoot is clipped after each axis. Pillow also
    rounds to 8 bits after each axis and so differs by up to one grey level.

    Args:
        images: (B, 3, H, W) uint8, or float in [0, 1].
        boxes: (B, 4) int64 top, left, height, width in pixels, within the image.
        size: edge of the result in pixels.
        flips: (B,) bool.
        interpolation: Pillow's triangle filter, or its bicubic (a = -0.5).

    Returns:
        (B, 3, size, size) float32 in [0, 1].
    """
    batch, channels, height, width = images.shape
    top, left, box_height, box_width = boxes.unbind(1)
    columns = resampling_matrix(
        left, box_width, size=size, extent=width, interpolation=interpolation, flips=flips
    )
    rows = resampling_matrix(top, box_height, size=size, extent=height, interpolation=interpolation)
    x = to_unit(images).reshape(batch, channels * height, width)
    x = torch.bmm(x, columns.transpose(1, 2)).clamp_(0, 1).view(batch, channels, height, size)
    return torch.matmul(rows[:, None], x).clamp_(0, 1)


def resized(images: Tensor, *, size: int, interpolation: Interpolation) -> Tensor:
    """Whole images at another size, with antialiasing, as `resized_crop` of the whole box.

    Args:
        images: (B, 3, H, W) uint8, or float in [0, 1].
        size: edge of the result in pixels; images of that size are given back as they are.
        interpolation: Pillow's triangle filter, or its bicubic (a = -0.5).

    Returns:
        (B, 3, size, size) float32 in [0, 1].
    """
    x = to_unit(images)
    if x.shape[-2:] == (size, size):
        return x
    return F.interpolate(x, (size, size), mode=interpolation, antialias=True).clamp_(0, 1)


def random_crop_with_padding(images: Tensor, keys: Tensor, *, padding: int = 4) -> Tensor:
    """Pads with black and cuts a box of the original size at a uniform position.

    Args:
        images: (B, 3, H, W) of any type.
        keys: (B,) int64 from `sample_keys`.
        padding: pixels on each side.

    Returns:
        (B, 3, H, W) of the same type; torchvision's `RandomCrop(H, padding=padding)`.
    """
    height, width = images.shape[-2:]
    shift = (uniform(keys, _SHIFT, 2) * (2 * padding + 1)).to(torch.int64)
    top, left = shift.unbind(1)
    # All crops of all samples, as views of the same memory: only those that are taken are copied.
    crops = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(len(images), device=images.device), :, top, left]


def _one_a_sample(value: Tensor | int, keys: Tensor) -> Tensor:
    """(B,) float64 of one number for all, or of one a sample."""
    if isinstance(value, Tensor):
        return value.double()
    # Filled on the device: a Python number turned into a tensor would be copied from the host.
    return torch.full_like(keys, value, dtype=torch.float64)
