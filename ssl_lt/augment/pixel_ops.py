"""8-bit image operations with a parameter per sample, as Pillow computes them.

Images are (B, 3, H, W) uint8 and so is every result; parameters are (B,) or say their shape.
Roundings, truncations and border rules are Pillow's, so that results equal it pixel by pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FIXED_ONE = 65536  # Pillow walks an affine grid in 16.16 fixed point
_CUT_OUT_COLOUR = (125, 123, 114)


def affine_nearest(images: Tensor, matrices: Tensor, *, fill: int = 0) -> Tensor:
    """Nearest-neighbour affine map; what comes from outside the image has the level `fill`.

    Args:
        images: (B, 3, H, W) uint8, H and W below 32768.
        matrices: (B, 2, 3) float64, from output to input: x_in = a x + b y + c in units of pixels,
            where a pixel's centre lies at its number plus 1/2.
        fill: 0 ... 255.
    """
    height, width = images.shape[-2:]
    # The first centre is at (1/2, 1/2), which is folded into the constant.
    a, b, c = matrices.unbind(2)
    fixed = (torch.stack([a, b, c + a * 0.5 + b * 0.5]) * _FIXED_ONE + 0.5).floor()
    step_x, step_y, origin = fixed.to(torch.int32)[..., None, None]  # (B, 2, 1, 1) each
    column = torch.arange(width, dtype=torch.int32, device=images.device)
    row = torch.arange(height, dtype=torch.int32, device=images.device)[:, None]
    source_x, source_y = ((origin + step_y * row) + step_x * column).unbind(1)  # (B, H, W) each
    # One pixel all around stands for everything outside.
    source_x = (source_x >> 16).clamp_(-1, width)
    source_y = (source_y >> 16).clamp_(-1, height)
    position = (source_y + 1) * (width + 2) + (source_x + 1)
    flat = F.pad(images, (1, 1, 1, 1), value=fill).flatten(2)
    taken = flat.gather(2, position.long().flatten(1)[:, None].expand(-1, 3, -1))
    return taken.view_as(images)


def look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Replaces each value by its entry in the uint8 table of its sample and channel.

    Args:
        images: (B, 3, H, W) uint8.
        tables: (B, 3, 256) uint8, or (B, 1, 256) for the three channels alike.
    """
    tables = tables.expand(-1, 3, -1)
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def histograms(images: Tensor) -> Tensor:
    """(B, 3, 256) int32: how often each value occurs in each channel."""
    values = images.flatten(2).long()
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int32, device=images.device)
    ones = torch.ones((), dtype=torch.int32, device=images.device)
    return counts.scatter_add_(2, values, ones.expand_as(values))


def autocontrast(images: Tensor) -> Tensor:
    """Stretches the values of each channel to 0 ... 255."""
    values = images.flatten(2)
    low, high = values.amin(2, keepdim=True), values.amax(2, keepdim=True)
    ramp = torch.arange(256, dtype=torch.float64, device=images.device)
    # Double precision, a true division and this order: truncation makes the last bit matter.
    # `255 / tensor` would multiply by a rounded reciprocal.
    scale = torch.full_like(ramp[:1], 255) / (high - low).clamp(min=1)
    stretched = (ramp * scale - low * scale).clamp_(0, 255)
    return look_up(images, torch.where(high > low, stretched, ramp).to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """Flattens the histogram of each channel; H W below 2^24."""
    counts = histograms(images)
    ramp = torch.arange(256, dtype=torch.float32, device=images.device)
    highest = images.flatten(2).amax(2, keepdim=True).long()
    num_pixels = images.shape[-2] * images.shape[-1]
    step = ((num_pixels - counts.gather(2, highest)) // 255).float()
    below = counts.cumsum(2, dtype=torch.int32) - counts
    # The floor of a quotient of integers below 2^24 is exact in single precision.
    tables = ((below + (step / 2).floor_()) / step.clamp(min=1)).floor_().clamp_(max=255)
    return look_up(images, torch.where(step > 0, tables, ramp).to(torch.uint8))


def gray(images: Tensor) -> Tensor:
    """(B, 1, H, W) int32 luma: ITU-R 601 weights in 16-bit fixed point."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return (red * 19595 + green * 38470 + blue * 7471 + 32768)[:, None] >> 16


def contrast_centre(images: Tensor) -> Tensor:
    """(B, 1, 1) int64: mean gray value, rounded half up."""
    values = gray(images).flatten(1)
    count = values.shape[1]
    return ((2 * values.sum(1, dtype=torch.int64) + count) // (2 * count))[:, None, None]


def blend(start: Tensor, values: Tensor, factor: Tensor) -> Tensor:
    """Computes start + factor (values - start), cut to 0 ... 255 and truncated to uint8.

    Args:
        start: any shape that broadcasts against `values`; factor 0 gives it.
        values: (B, ...) uint8; factor 1 gives it.
        factor: (B,).
    """
    factor = factor.to(torch.float32).view(-1, *[1] * (values.ndim - 1))
    start = start.to(torch.float32)
    blended = (values.to(torch.float32) - start).mul_(factor).add_(start)
    return blended.clamp_(0, 255).to(torch.uint8)


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor above 1) or towards (below 1) the gray image."""
    return blend(gray(images), images, factor)


def sharpen(images: Tensor, factor: Tensor) -> Tensor:
    """Away from or towards the smoothed image, whose outermost pixels are the image's own."""
    smooth = images.to(torch.float32)
    inner = smooth[..., 1:-1, 1:-1]
    rows = smooth[..., :-2, :] + smooth[..., 1:-1, :] + smooth[..., 2:, :]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    # The kernel 1 1 1 / 1 5 1 / 1 1 1 over 13; no sum lies halfway between two integers.
    inner.copy_(((box + 4 * inner) / 13 + 0.5).floor_())
    return blend(smooth, images, factor)


def cut_out(images: Tensor, side: Tensor, centre: Tensor) -> Tensor:
    """Paints a gray square; what lies outside the image is cut off.

    Args:
        images: (B, 3, H, W) uint8.
        side: (B,) in pixels; nothing is painted where it is 0.
        centre: (B, 2) in pixels, x and y.
    """
    height, width = images.shape[-2:]
    # The first corner is truncated before the side is added, and the last pixel is included.
    first = (centre - side[:, None] / 2).clamp(min=0).floor()
    last = (first + side[:, None]).floor()
    column = torch.arange(width, device=images.device)
    row = torch.arange(height, device=images.device)
    in_x = (column >= first[:, :1]) & (column <= last[:, :1])
    in_y = (row >= first[:, 1:]) & (row <= last[:, 1:]) & (side > 0)[:, None]
    square = in_y[:, :, None] & in_x[:, None, :]
    channels = zip(images.unbind(1), _CUT_OUT_COLOUR, strict=True)
    return torch.stack([channel.masked_fill(square, level) for channel, level in channels], 1)
