"""The view that is classified beside a contrast: crop, flip, AutoAugment, Cutout."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.augment.autoaugment import AutoAugment, PolicyName
from ssl_lt.augment.geometric import (
    crop_boxes,
    horizontal_flip,
    random_crop_with_padding,
    random_flips,
    resized_crop,
)
from ssl_lt.augment.views import PlainView
from ssl_lt.core.random import draw_id, uniform
from ssl_lt.core.types import ImageSpec

_CUTOUT = draw_id("cutout")
_MIN_SCALE = 0.08


def cut_black_square(images: Tensor, keys: Tensor, *, side: int) -> Tensor:
    """Blackens a square, whose centre may be any pixel and which is clipped at the border.

    Cutout (arXiv:1708.04552) with one hole: rows y - side // 2 to y + side // 2 - 1 of a uniform
    y, and likewise columns.

    Args:
        images: (B, 3, H, W).
        keys: (B,) of the view.
        side: even, in pixels; 0 leaves the images alone.
    """
    height, width = images.shape[-2:]
    y, x = uniform(keys, _CUTOUT, 2).unsqueeze(2).unbind(1)
    rows = torch.arange(height, device=images.device) - (y * height).long()
    columns = torch.arange(width, device=images.device) - (x * width).long()
    half = side // 2
    in_y, in_x = ((d >= -half) & (d < half) for d in (rows, columns))
    return images.masked_fill((in_y[:, :, None] & in_x[:, None, :])[:, None], 0)


class ClassifierView(PlainView):
    """Crop, flip, AutoAugment and Cutout, then normalise.

    Images up to the view's own size are padded by 4 black pixels and cropped, and enlarged when all
    else is done; larger ones, and those that loader workers have cropped, get a random resized
    crop.

    Args:
        images: size and normalisation that the network expects.
        policy: table of AutoAugment.
        cutout: side of Cutout's square in pixels of the images; 0: none.
        flip_probability: share of views that are mirrored.
    """

    def __init__(
        self, images: ImageSpec, *, policy: PolicyName, cutout: int, flip_probability: float
    ) -> None:
        super().__init__(images)
        self.autoaugment = AutoAugment(policy)
        self.cutout, self.flip_probability = cutout, flip_probability

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """(B, 3, size, size) normalised views of uint8 images; strength is not used."""
        height, width = images.shape[-2:]
        if height == width <= self.size:
            return self.after_crop(random_crop_with_padding(images, keys), keys)
        boxes = crop_boxes(keys, height, width, scale=(_MIN_SCALE, 1.0))
        crops = resized_crop(
            images,
            boxes,
            size=self.size,
            flips=torch.zeros_like(keys, dtype=torch.bool),
            interpolation=self.interpolation,
        )
        return self.after_crop((crops * 255).add_(0.5).to(torch.uint8), keys)

    def after_crop(self, crops: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The same view of square uint8 images that have been cropped."""
        flips = random_flips(keys, self.flip_probability)
        x = self.autoaugment(horizontal_flip(crops, flips), keys)
        return self.to_network(cut_black_square(x, keys, side=self.cutout))
