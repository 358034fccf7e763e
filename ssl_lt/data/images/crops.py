"""Rectangles cut from decoded images and resized to squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ssl_lt.data.images.decode import Decoded, EncodedImage

# Side of the square that is kept of an image whose shorter side is 256, in the ImageNet protocol.
CENTRE_FRACTION = 224 / 256

Size = tuple[int, int]  # height and width
Box = tuple[float, float, float, float]
WholeBox = tuple[int, int, int, int]
# Times that a JPEG can be decoded smaller.
_SHRINKS = (8, 4, 2)


class Crop(Protocol):
    """Chooses rectangles; must be picklable and keep no state, since workers hold copies."""

    def boxes(
        self, epoch: int, index: Sequence[int], sizes: Sequence[Size]
    ) -> Sequence[Sequence[Box]]:
        """(top, left, height, width) in pixels for each of V views of each of some images.

        All `int`: boxes are cut out, then resized. All `float`: the other way round. See `cut`.

        Args:
            epoch: number.
            index: (B,) of the images, or `drawn_rows`.
            sizes: (B,) heights and widths.
        """


@dataclass(frozen=True)
class CentreSquare:
    """One square in the middle, `fraction` of the shorter side long.

    With `CENTRE_FRACTION` it is "resize the shorter side to S * 256 / 224, cut S x S from the
    middle" in one step, without rounding the position to whole pixels in between.
    """

    fraction: float

    def boxes(
        self, epoch: int, index: Sequence[int], sizes: Sequence[Size]
    ) -> Sequence[Sequence[Box]]:
        """The same squares in every epoch."""
        return [[self.box(height, width)] for height, width in sizes]

    def box(self, height: int, width: int) -> Box:
        """(top, left, height, width) of the square in an image."""
        side = self.fraction * min(height, width)
        return (height - side) / 2, (width - side) / 2, side, side


def cut_encoded(image: EncodedImage, boxes: Sequence[Box], *, size: int) -> Tensor:
    """`cut` of an image that is not decoded yet: a JPEG is decoded no larger than need be.

    Whole boxes alone, those of random crops, are cut from fewer pixels; their corners move by up to
    half a pixel of what was decoded, and so by up to half a pixel of the result. Boxes with
    fractions, of what is tested on, are cut from all pixels, as is what `decode_once` keeps.

    Raises:
        DataError: the image cannot be decoded.
    """
    if not _are_whole(boxes):
        return cut(image.decode().pixels, boxes, size=size)
    decoded = image.decode(shrink=largest_shrink(boxes, size=size))
    return cut(decoded.pixels, [shrunk_box(box, decoded) for box in boxes], size=size)


def largest_shrink(boxes: Sequence[Box], *, size: int) -> int:
    """8, 4, 2 or 1: the most that still leaves every box `size` pixels a side.

    So no box is enlarged because the image was decoded smaller.
    """
    side = min(min(height, width) for _, _, height, width in boxes)
    return next((shrink for shrink in _SHRINKS if side >= shrink * size), 1)


def shrunk_box(box: WholeBox, decoded: Decoded) -> WholeBox:
    """A box of the image in pixels of what was decoded of it, rounded to whole ones."""
    top, left, height, width = box
    first_row, end_row = (_whole(y / decoded.shrink + decoded.top) for y in (top, top + height))
    first_column, end_column = (
        _whole(x / decoded.shrink + decoded.left) for x in (left, left + width)
    )
    return first_row, first_column, end_row - first_row, end_column - first_column


def cut(image: Image.Image, boxes: Sequence[Box], *, size: int) -> Tensor:
    """Resizes rectangles to squares with the bicubic filter (a = -1/2), which does not alias.

    Whole boxes are cut out and then resized, as in torchvision's `RandomResizedCrop`: what lies
    outside weighs nothing. Torch does it with the processor's vector instructions, in a third of
    Pillow's time, and equals Pillow to one grey level or two. A box with fractions is a part of the
    resized image, so that at its edges the filter sees what lies around it; that is Pillow's.

    Returns:
        (V, 3, size, size) uint8.
    """
    if not _are_whole(boxes):
        return _resized_then_cut(image, boxes, size=size)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    crops = (
        pixels[..., top : top + height, left : left + width] for top, left, height, width in boxes
    )
    return torch.cat(
        [F.interpolate(crop, (size, size), mode="bicubic", antialias=True) for crop in crops]
    ).contiguous()


def _resized_then_cut(image: Image.Image, boxes: Sequence[Box], *, size: int) -> Tensor:
    out = np.empty((len(boxes), size, size, 3), dtype=np.uint8)
    for view, (top, left, height, width) in enumerate(boxes):
        box = (left, top, left + width, top + height)
        out[view] = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()


def _are_whole(boxes: Sequence[Box]) -> TypeGuard[Sequence[WholeBox]]:
    return all(isinstance(edge, int) for box in boxes for edge in box)


def _whole(place: float) -> int:
    """The nearest whole number; halves go up, so that lengths of `size` and more stay so."""
    return math.floor(place + 0.5)


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
