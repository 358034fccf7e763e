"""Crops and flips of a whole batch, each sample with parameters of its own.

A resize is two small matrix products a sample, one along each axis; the crop's position, the
antialiasing and the flip are all in the matrices, so one batched product does everything.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lt.core.random import draw_id, uniform

Interpolation = Literal["bilinear", "bicubic"]

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
    height = _column(heights, keys)
    width = _column(widths, keys)
    draws = uniform(keys, _BOX, 2 * _ATTEMPTS + 2).double()
    area_draw, ratio_draw = draws[:, :_ATTEMPTS], draws[:, _ATTEMPTS:-2]
    top_draw, left_draw = draws[:, -2:-1], draws[:, -1:]

    low, high = (math.log(bound) for bound in ratio)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * area_draw)
    aspect = torch.exp(low + (high - low) * ratio_draw)
    tried_width = (area * aspect).sqrt_().round_()
    tried_height = (area / aspect).sqrt_().round_()
    fits = (
        (tried_width > 0) & (tried_width <= width) & (tried_height > 0) & (tried_height <= height)
    )
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    none_fits = ~fits.any(dim=1, keepdim=True)

    box_height = torch.where(
        none_fits, torch.minimum(height, (width / ratio[0]).round_()), tried_height.gather(1, first)
    )
    box_width = torch.where(
        none_fits, torch.minimum(width, (height * ratio[1]).round_()), tried_width.gather(1, first)
    )
    # A central box has no random place: one half of the free pixels, rounded down.
    top = torch.where(none_fits, (height - box_height) / 2, top_draw * (height - box_height + 1))
    left = torch.where(none_fits, (width - box_width) / 2, left_draw * (width - box_width + 1))
    return torch.cat((top, left, box_height, box_width), dim=1).to(torch.int64)


def random_flips(keys: Tensor) -> Tensor:
    """(B,) bool: which samples are mirrored, each with probability 1/2."""
    return uniform(keys, _FLIP)[:, 0] < 0.5


def horizontal_flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirrors the samples of (B, 3, H, W) that `flips` (B,) names."""
    mask = flips[:, None, None, None]
    if not on_host(images):
        return torch.where(mask, images.flip(-1), images)
    # As exact, and here several times as fast as a choice under a mask that is broadcast.
    mirrored = mask.to(images.dtype)
    return images.flip(-1).mul_(mirrored).add_(images * (1 - mirrored))


def on_host(x: Tensor) -> bool:
    """Whether steps may differ for a CPU: not on other devices, nor where they are compiled."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


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


def resampling_matrix(
    starts: Tensor,
    lengths: Tensor,
    *,
    size: int,
    extent: int,
    interpolation: Interpolation,
    flips: Tensor | None = None,
) -> Tensor:
    """Weights that resize one axis: `out = matrix @ pixels`.

    Output i looks at the point (i + 1/2) · length / size of its crop. Where a crop is larger than
    the output, the filter is widened by length / size, which is what antialiases. Pixels outside
    the crop weigh nothing, and each row sums to one.

    Args:
        starts: (B,) first pixel of the crop.
        lengths: (B,) pixels in the crop, at least 1.
        size: number of outputs.
        extent: number of pixels of the whole axis.
        interpolation: which filter.
        flips: (B,) bool, which samples come out mirrored.

    Returns:
        (B, size, extent) float32.
    """
    step = lengths[:, None] / size
    width = step.clamp(min=1)
    target = (torch.arange(size, device=starts.device) + 0.5) * step
    if flips is not None:
        target = torch.where(flips[:, None], lengths[:, None] - target, target)
    pixel = torch.arange(extent, device=starts.device) - starts[:, None]
    outside = (pixel < 0) | (pixel >= lengths[:, None])
    # Pushed out of every filter's reach: cheaper than a mask over the whole matrix.
    source = ((pixel + 0.5) / width).masked_fill(outside, 1e6)
    distance = (source[:, None, :] - (target / width)[:, :, None]).abs_()
    weights = _triangle(distance) if interpolation == "bilinear" else _cubic(distance)
    return weights.div_(weights.sum(dim=2, keepdim=True))


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


def _column(value: Tensor | int, keys: Tensor) -> Tensor:
    """(B, 1) float64 of one number for all, or of one a sample."""
    if isinstance(value, Tensor):
        return value[:, None].double()
    # Filled on the device: a Python number turned into a tensor would be copied from the host.
    return torch.full_like(keys, value, dtype=torch.float64)[:, None]


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).relu_()


def _cubic(distance: Tensor) -> Tensor:
    """Twice Keys' cubic with a = -1/2; the rows are normalised afterwards.

    y = (2 - d)+ and z = (1 - d)+ give both pieces without a branch: y²(y - 1) + z²(2 - 4z).
    """
    y = (2 - distance).relu_()
    t = y - 1
    z = t.relu()
    return (y * y).mul_(t).addcmul_(z * z, 2 - 4 * z)
