"""Views: what a network sees of a batch of images.

A view is a module called with (images uint8 (B, 3, H, W), keys (B,), strength (B,) or None) that
returns normalised float32 (B, 3, size, size). Every draw is a function of the sample's key, so a
sample's view does not depend on the batch it comes in: bit for bit where the matrix products of the
device add in the same order for every batch size (MKL on CPUs does), else to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_lt.augment.color import color_jitter_, gaussian_blur, grayscale_, jitter_factors
from ssl_lt.augment.geometric import (
    crop_boxes,
    horizontal_flip,
    random_crop_with_padding,
    random_flips,
    resized,
    resized_crop,
    to_unit,
)
from ssl_lt.augment.resampling import on_host
from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.core.random import draw_id, sample_keys, uniform
from ssl_lt.core.types import ImageSpec, Interpolation

_GRAY = draw_id("grayscale")
_BLUR = draw_id("blur")
# Of a slice on a CPU: its few temporaries then stay within cache, and calling an operation costs
# little beside what it does. Of 24 to 256 small images, 128 were the quickest.
_CHUNK_VALUES = 128 * 3 * 32 * 32
_MIN_CHUNK_ROWS = 4
# Images blurred at a time on a CPU: its convolution takes 16 channels at a time, padding the rest.
_BLUR_ROWS = 16


@dataclass(frozen=True)
class ViewOptions:
    """SimCLR's augmentation; the defaults are those for 32-pixel images (arXiv:2106.02990).

    Raises:
        ConfigError: a value outside its range.
    """

    min_scale: float = 0.1
    """Smallest share of the image's area that a crop keeps; the largest is 1."""
    interpolation: Interpolation = option("bicubic", page="all")
    """How their crops are resized."""
    flip_probability: float | None = None
    """Share of training views that are mirrored left to right, that of the classified image too; 0
    where sides matter, as in text or scans. Default: that of the run one starts from, if it has
    one; else 0 for digits, otherwise 0.5."""
    jitter_probability: float = option(0.8, page="all")
    """Share of views whose colours are jittered."""
    brightness: float = option(0.4, page="all")
    """Brightness is multiplied by 1 - this to 1 + this."""
    contrast: float = option(0.4, page="all")
    """Contrast is multiplied by 1 - this to 1 + this."""
    saturation: float = option(0.4, page="all")
    """Saturation is multiplied by 1 - this to 1 + this."""
    hue: float = option(0.1, page="all")
    """Hue is turned by up to this share of the colour circle, either way."""
    gray_probability: float = option(0.2, page="all")
    """Share of views without colour."""
    blur_probability: float = 0.0
    """Share of views that are blurred; 0 leaves the blur out."""
    min_sigma: float = option(0.1, page="all")
    """Smallest standard deviation of the blur in pixels."""
    max_sigma: float = option(2.0, page="all")
    """Largest standard deviation of the blur in pixels."""

    def __post_init__(self) -> None:
        names = ("flip_probability", "jitter_probability", "gray_probability", "blur_probability")
        ranges = dict.fromkeys(names, "[0, 1]") | {"min_scale": "[1e-6, 1]", "hue": "[0, 0.5]"}
        ranges |= dict.fromkeys(("brightness", "contrast", "saturation"), "[0, inf)")
        ranges |= {"max_sigma": "[1e-6, inf)", "min_sigma": f"[1e-6, {self.max_sigma}]"}
        check_range(self, ranges, prefix="view.")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ConfigError(
                f"--view.interpolation: {self.interpolation!r} is not bilinear or bicubic"
            )

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        if self.blur_probability:
            return {}
        blur = "--view.blur-probability above 0"
        return dict.fromkeys(("view.min-sigma", "view.max-sigma"), blur)

    @property
    def flips(self) -> float:
        """Share of views that are mirrored."""
        return 0.5 if self.flip_probability is None else self.flip_probability


SMALL_IMAGE_VIEW = ViewOptions()
LARGE_IMAGE_VIEW = ViewOptions(min_scale=0.08, blur_probability=0.5)
# The augmentation of fine-tuning where pictures are too large for a padded crop.
CROP_AND_FLIP = ViewOptions(min_scale=0.08, jitter_probability=0.0, gray_probability=0.0)


class PlainView(nn.Module):
    """Only resizes, scales to [0, 1] and normalises: what an evaluation sees.

    Args:
        images: size, resizing and normalisation that the network expects.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, images: ImageSpec) -> None:
        super().__init__()
        self.size, self.interpolation = images.size, images.interpolation
        self.register_buffer("mean", torch.tensor(images.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(images.std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """(B, 3, size, size) normalised; keys and strength are not used."""
        return self.to_network(images)

    def to_network(self, images: Tensor) -> Tensor:
        """Whole uint8 images, or floats in [0, 1], as the network takes them."""
        return self.normalise(resized(images, size=self.size, interpolation=self.interpolation))

    def normalise(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """(x - mean) / std of images in [0, 1]."""
        return torch.sub(x, self.mean, out=out).div_(self.std)


class WeakView(PlainView):
    """A crop from the image padded with 4 black pixels, and a flip: usual when fine-tuning.

    Both are made at the images' own size; what the network sees is resized afterwards.

    Args:
        images: size, resizing and normalisation that the network expects.
        flip_probability: share of views that are mirrored.
    """

    def __init__(self, images: ImageSpec, *, flip_probability: float) -> None:
        super().__init__(images)
        self.flip_probability = flip_probability

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """(B, 3, size, size) normalised; strength is not used."""
        return self.after_crop(random_crop_with_padding(images, keys), keys)

    def after_crop(self, crops: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The flip alone, of images (B, 3, H, W) that have been cropped."""
        flips = random_flips(keys, self.flip_probability)
        return self.to_network(horizontal_flip(crops, flips))


class ContrastiveView(PlainView):
    """SimCLR's view: crop, resize, flip, colour jitter, grayscale, blur, normalise.

    Args:
        options: how strong each step is.
        images: size and normalisation that the network expects.
    """

    def __init__(self, options: ViewOptions, images: ImageSpec) -> None:
        super().__init__(images)
        self.options = options

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """(B, 3, size, size) normalised views of uint8 images (B, 3, H, W).

        Args:
            images: of any height and width, the same for the batch.
            keys: (B,) int64 from `sample_keys`.
            strength: not used; `ssl_lt.augment.boosted` has the view that does.
        """
        options = self.options
        boxes = crop_boxes(keys, *images.shape[-2:], scale=(options.min_scale, 1.0))
        flips = random_flips(keys, options.flips)

        def crop(chunk: slice) -> Tensor:
            return resized_crop(
                images[chunk],
                boxes[chunk],
                size=self.size,
                flips=flips[chunk],
                interpolation=options.interpolation,
            )

        return self._in_chunks(crop, keys)

    def after_crop(self, crops: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The same view where loader workers have already cropped and resized.

        Args:
            crops: (B, 3, size, size) uint8 of the boxes that `WorkerCrop` names; not flipped.
            keys: (B,) int64, those of the view that the crops were made for.
            strength: not used.
        """
        flips = random_flips(keys, self.options.flips)

        def flip(chunk: slice) -> Tensor:
            return to_unit(horizontal_flip(crops[chunk], flips[chunk]))

        return self._in_chunks(flip, keys)

    def _color_draws(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(4, B) factors of the jitter, (B,) bool that says which views lose their colour."""
        options = self.options
        factors = jitter_factors(
            keys,
            strengths=(options.brightness, options.contrast, options.saturation, options.hue),
            probability=options.jitter_probability,
        )
        return factors, uniform(keys, _GRAY)[:, 0] < options.gray_probability

    def _blur(self, views: Tensor, keys: Tensor) -> Tensor:
        """Blurs normalised views: the kernel sums to one, so it may come after normalising."""
        options, kernel_size = self.options, self.size // 10 | 1
        if options.blur_probability == 0:
            return views
        draws = uniform(keys, _BLUR, 2)
        sigmas = options.min_sigma + (options.max_sigma - options.min_sigma) * draws[:, 0]
        blurred = draws[:, 1] < options.blur_probability
        if not on_host(keys):
            return gaussian_blur(views, sigmas, blurred, kernel_size=kernel_size)
        # Nothing has to wait for the mask here, so the others are spared.
        chosen = blurred.nonzero()[:, 0]
        for start in range(0, len(chosen), _BLUR_ROWS):
            rows = chosen[start : start + _BLUR_ROWS]
            views[rows] = gaussian_blur(
                views[rows], sigmas[rows], blurred[rows], kernel_size=kernel_size
            )
        return views

    def _in_chunks(self, crop: Callable[[slice], Tensor], keys: Tensor) -> Tensor:
        """Makes the view slice by slice on a CPU, in one go elsewhere and when compiled."""
        size, batch = self.size, keys.shape[0]
        rows = batch
        if on_host(keys):
            rows = max(_MIN_CHUNK_ROWS, _CHUNK_VALUES // (3 * size * size))
        factors, gray = self._color_draws(keys)
        views = torch.empty(batch, 3, size, size, device=keys.device)
        # Mixed precision would round the images to 8 bits of mantissa inside the products.
        with torch.autocast(keys.device.type, enabled=False):
            for start in range(0, batch, max(rows, 1)):
                chunk = slice(start, start + rows)
                x = grayscale_(color_jitter_(crop(chunk), factors[:, chunk]), gray[chunk])
                self.normalise(x, out=views[chunk])
            return self._blur(views, keys)


@dataclass(frozen=True)
class WorkerCrop:
    """Tells loader workers which boxes to cut; holds numbers only, so it can be pickled.

    Attributes:
        views: the options of each view of a sample.
        seed: of the run.
    """

    views: tuple[ViewOptions, ...]
    seed: int

    @property
    def filters(self) -> tuple[Interpolation, ...]:
        """Of each view."""
        return tuple(view.interpolation for view in self.views)

    def boxes(
        self, epoch: int, index: Sequence[int], sizes: Sequence[tuple[int, int]]
    ) -> list[list[tuple[int, int, int, int]]]:
        """(top, left, height, width) of each view of images: what `ContrastiveView` would cut.

        Args:
            epoch: number.
            index: (B,) of the images, or `drawn_rows`.
            sizes: (B,) heights and widths.
        """
        rows, (heights, widths) = torch.tensor(index), torch.tensor(sizes).unbind(1)
        boxes = [
            crop_boxes(
                sample_keys(rows, seed=self.seed, epoch=epoch, view=number),
                heights,
                widths,
                scale=(view.min_scale, 1.0),
            )
            for number, view in enumerate(self.views)
        ]
        of_images = torch.stack(boxes, dim=1).tolist()
        return [[(top, left, h, w) for top, left, h, w in image] for image in of_images]
