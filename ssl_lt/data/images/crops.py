"""Rectangles cut from images and resized to squares, in one of two orders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssl_lt.core.types import Interpolation
from ssl_lt.data.images.decode import EncodedImage

# Side of the square that is kept of an image whose shorter side is 256, in the ImageNet protocol.
CENTRE_FRACTION = 224 / 256
_THUMBNAIL_SIDE = 64

Size = tuple[int, int]  # height and width
Box = tuple[int, int, int, int]  # top, left, height and width in pixels


class Crop(Protocol):
    """Chooses rectangles; must be picklable and keep no state, since workers hold copies."""

    @property
    def filters(self) -> Sequence[Interpolation]:
        """How the rectangle of each of V views is resized."""

    def boxes(
        self, epoch: int, index: Sequence[int], sizes: Sequence[Size]
    ) -> Sequence[Sequence[Box]]:
        """(top, left, height, width) in pixels for each of V views of each of some images.

        Args:
            epoch: number.
            index: (B,) of the images, or `drawn_rows`.
            sizes: (B,) heights and widths.
        """


def crop_then_resize(
    image: Image.Image,
    boxes: Sequence[Box],
    *,
    size: int,
    filters: Iterable[Interpolation] = repeat("bicubic"),
) -> Tensor:
    """Cuts boxes out and resizes each with its filter, as torchvision's `RandomResizedCrop` does.

    A filter does not alias (bicubic: a = -1/2), and what lies outside a box weighs nothing. Torch
    uses the processor's vector instructions, takes a third of Pillow's time, and equals Pillow to
    one grey level or two.

    Returns:
        (V, 3, size, size) uint8.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    crops = (
        pixels[..., top : top + height, left : left + width] for top, left, height, width in boxes
    )
    return torch.cat(
        [
            F.interpolate(crop, (size, size), mode=mode, antialias=True)
            for crop, mode in zip(crops, filters, strict=False)
        ]
    ).contiguous()


def crop_encoded(
    image: EncodedImage,
    boxes: Sequence[Box],
    *,
    size: int,
    filters: Iterable[Interpolation] = repeat("bicubic"),
) -> Tensor:
    """`crop_then_resize` of an image that is not decoded yet.

    A JPEG is decoded at half its size where every box is then still `size` pixels a side, so that
    none is enlarged. The corners of the boxes move by half a pixel of the result at most.

    Raises:
        DataError: the image cannot be decoded.
    """
    if min(min(height, width) for _, _, height, width in boxes) < 2 * size:
        return crop_then_resize(image.decode(), boxes, size=size, filters=filters)
    pixels = image.decode_half()
    if pixels.size != (image.width, image.height):
        boxes = [_half(box) for box in boxes]
    return crop_then_resize(pixels, boxes, size=size, filters=filters)


def centre_square(
    image: Image.Image,
    *,
    size: int,
    fraction: float = 1.0,
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """(3, size, size) uint8: the middle of an image, resized and cut by Pillow in one step.

    With `CENTRE_FRACTION` it is "resize the shorter side to S * 256 / 224, cut S x S from the
    middle", without rounding the position to whole pixels in between: at its edges the filter sees
    what lies around the square.

    Args:
        image: of mode RGB.
        size: S.
        fraction: side of the square, over the shorter side of the image.
        interpolation: Pillow's filter.
    """
    side = fraction * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    resized = image.resize(
        (size, size),
        Image.Resampling[interpolation.upper()],
        box=(left, top, left + side, top + side),
    )
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the middle square, 64 pixels a side; a smaller image stays as it is."""
    if max(image.size) <= _THUMBNAIL_SIDE:
        return np.array(image)
    return centre_square(image, size=_THUMBNAIL_SIDE).permute(1, 2, 0).contiguous().numpy()


def storage_size(image_size: int, crop: float = CENTRE_FRACTION) -> int:
    """Side at which an image is kept in memory to cut `image_size`, a share of it, from its middle.

    Args:
        image_size: S.
        crop: S over the side.
    """
    return round(image_size / crop)


def centre(pixels: Tensor, *, size: int) -> Tensor:
    """(B, 3, size, size) from the middle of (B, 3, H, W); smaller images stay as they are."""
    height, width = pixels.shape[-2:]
    if height <= size or width <= size:
        return pixels
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[..., top : top + size, left : left + size]


def _half(box: Box) -> Box:
    """A box in an image of half the size; halves are rounded up, so that no side falls short."""
    top, left, height, width = box
    first_row, first_column = (top + 1) // 2, (left + 1) // 2
    return (
        first_row,
        first_column,
        (top + height + 1) // 2 - first_row,
        (left + width + 1) // 2 - first_column,
    )
