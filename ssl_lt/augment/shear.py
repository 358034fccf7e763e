"""Shearing of 8-bit images with cubic interpolation, pixel by pixel as Pillow does it."""

from __future__ import annotations

import torch
from torch import Tensor


def shear_bicubic(images: Tensor, slope_x: Tensor, slope_y: Tensor, *, fill: int) -> Tensor:
    """Shears each image along one of the axes.

    Output pixel (x, y) shows x + slope_x y or y + slope_y x. One axis moves, so cubic
    interpolation needs the four neighbours along that axis only. Its kernel is Keys' with a = -1;
    neighbours beyond the edge are the edge's own pixels, and values are truncated.

    Args:
        images: (B, 3, H, W) uint8.
        slope_x: (B,) float64.
        slope_y: (B,) float64; 0 wherever `slope_x` is not.
        fill: level of what comes from outside the image.
    """
    height, width = images.shape[-2:]
    column = torch.arange(width, dtype=torch.float64, device=images.device) + 0.5
    row = (torch.arange(height, dtype=torch.float64, device=images.device) + 0.5)[:, None]
    x = column + slope_x[:, None, None] * row
    y = slope_y[:, None, None] * column + row
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    left, top = (x - 0.5).floor(), (y - 0.5).floor()
    along_y = (slope_y != 0)[:, None, None]
    d = torch.where(along_y, y - 0.5 - top, x - 0.5 - left)[:, None]
    flat = images.flatten(2)
    v = []
    for step in (-1, 0, 1, 2):
        at_x = (left + (~along_y) * step).clamp(0, width - 1)
        at_y = (top + along_y * step).clamp(0, height - 1)
        position = (at_y * width + at_x).long().flatten(1)
        taken = flat.gather(2, position[:, None].expand(-1, 3, -1))
        v.append(taken.view_as(images).double())
    # Horner's scheme in Pillow's order: truncation makes the last bit matter.
    cubic = -v[0] + v[1] - v[2] + v[3]
    square = 2 * (v[0] - v[1]) + v[2] - v[3]
    values = v[1] + d * ((-v[0] + v[2]) + d * (square + d * cubic))
    return values.clamp_(0, 255).to(torch.uint8).masked_fill(~inside[:, None], fill)
