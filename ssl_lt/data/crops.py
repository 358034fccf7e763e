"""Rectangles cut from decoded images and resized to squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Side of the square that is kept of an image whose shorter side is 256, in the ImageNet protocol.
CENTRE_FRACTION = 224 / 256

Box = tuple[float, float, float, float]


class Crop(Protocol):
    """Chooses rectangles; must be picklable and keep no state, since workers hold copies."""

    def boxes(self, epoch: int, index: int, height: int, width: int) -> Sequence[Box]:
        """(top, left, height, width) in pixels for each of V views of one image."""


@dataclass(frozen=True)
class CentreSquare:
    """One square in the middle, `fraction` of the shorter side long.

    With `CENTRE_FRACTION` it is "resize the shorter side to S * 256 / 224, cut S x S from the
    middle" in one step, without rounding the position to whole pixels in between.
    """

    fraction: float

    def boxes(self, epoch: int, index: int, height: int, width: int) -> Sequence[Box]:
        """The same square in every epoch."""
        side = self.fraction * min(height, width)
        return [((height - side) / 2, (width - side) / 2, side, side)]


def cut(image: Image.Image, boxes: Sequence[Box], *, size: int) -> Tensor:
    """Resizes rectangles to squares with Pillow's bicubic filter, which does not alias.

    Returns:
        (V, 3, size, size) uint8.
    """
    out = np.empty((len(boxes), size, size, 3), dtype=np.uint8)
    for view, (top, left, height, width) in enumerate(boxes):
        box = (left, top, left + width, top + height)
        out[view] = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()


def storage_size(image_size: int) -> int:
    """Side at which an image is kept in memory to cut `image_size` from its middle."""
    return round(image_size / CENTRE_FRACTION)


def centre(pixels: Tensor, *, size: int) -> Tensor:
    """(B, 3, size, size) from the middle of (B, 3, H, W); smaller images stay as they are."""
    height, width = pixels.shape[-2:]
    if height <= size or width <= size:
        return pixels
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[..., top : top + size, left : left + size]
