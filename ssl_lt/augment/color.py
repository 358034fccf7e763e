"""Colour changes of a whole batch, each sample with a strength of its own.

All functions take float images (B, 3, H, W) in [0, 1]; those whose names end in `_` change them
in place, which on a CPU takes half the time of writing new ones, and return them, in [0, 1] again.
Each operation alone is torchvision's for float tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_lt.core.random import draw_id, uniform

_JITTER = draw_id("colour jitter")
_LUMA = (0.2989, 0.587, 0.114)


def blend_(images: Tensor, base: Tensor, factors: Tensor) -> Tensor:
    """Mixes two images: factor · images + (1 - factor) · base, clipped to [0, 1].

    Args:
        images: (B, 3, H, W).
        base: (B, 1 or 3, H, W).
        factors: (B,); 1 gives `images` exactly and 0 gives `base` exactly.
    """
    return images.lerp_(base, 1 - factors[:, None, None, None]).clamp_(0, 1)


def luma(images: Tensor) -> Tensor:
    """(B, 1, H, W) brightness as the eye sees it (ITU-R 601 weights)."""
    red, green, blue = images.chunk(3, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def adjust_brightness_(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with black; `factors` (B,) at least 0."""
    return images.mul_(factors[:, None, None, None]).clamp_(max=1)


def adjust_contrast_(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the image's mean luma; `factors` (B,) at least 0."""
    mean, factor = luma(images.mean(dim=(2, 3), keepdim=True)), factors[:, None, None, None]
    # With one number an image, several times as fast as `blend_`.
    return images.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def adjust_saturation_(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the image's luma; `factors` (B,) at least 0."""
    return blend_(images, luma(images), factors)


def adjust_hue_(images: Tensor, factors: Tensor) -> Tensor:
    """Turns the hue of HSV by `factors` (B,), in turns from -1/2 to 1/2.

    With M the largest and m the smallest channel and C = M - m, a pixel's hue is h turns from
    pure red, |6h| = 1 + (G + B - R - m) / C with the sign of G - B, and a channel whose own hue
    is a turns from red becomes M - C · clip(6 |h - a| - 1, 0, 1), with |·| the shorter way round.
    This is the usual conversion to HSV and back, without its six cases.

    The shorter way round is 1/2 - e, where e = | |h - a| - 1/2 | for any h - a between -1 and 1,
    so that a channel becomes M - 2C + 6C · clip(e, 1/6, 1/3).
    """
    red, green, blue = images.chunk(3, dim=1)
    high = torch.maximum(green, blue)
    low = torch.minimum(green, blue)
    low = torch.minimum(low, red)
    high = torch.maximum(high, red)
    chroma = high - low
    # A grey pixel has no hue and no chroma: whatever hue it gets, it stays as it is.
    scale = chroma.mul(6).clamp_(min=1e-12)
    turns = (green + blue).sub_(red).sub_(low).add_(chroma).div_(scale)
    turns = torch.copysign(turns, green - blue).add_(factors[:, None, None, None])
    turns = turns.sub_(turns.round())
    # Of red, green and blue: 0, 1/3, -1/3.
    own = (torch.arange(4, 7, device=images.device)[:, None, None] % 3 - 1) / 3
    torch.sub(turns, own, out=images).abs_().sub_(1 / 2).abs_().clamp_(1 / 6, 1 / 3)
    return images.mul_(scale).add_(high.sub_(chroma, alpha=2)).clamp_(0, 1)


def grayscale_(images: Tensor, mask: Tensor) -> Tensor:
    """Takes the colour from the samples that `mask` (B,) bool names."""
    return blend_(images, luma(images), (~mask).to(images.dtype))


def gaussian_blur(images: Tensor, sigmas: Tensor, mask: Tensor, *, kernel_size: int) -> Tensor:
    """Blurs the samples that `mask` names with a Gaussian; the others pass through unchanged.

    Args:
        images: (B, 3, H, W), H and W above kernel_size // 2; edges are reflected.
        sigmas: (B,) standard deviations in pixels, above 0.
        mask: (B,) bool.
        kernel_size: odd number of taps along each axis.
    """
    batch, channels, height, width = images.shape
    reach = kernel_size // 2
    offset = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.softmax(-0.5 * (offset / sigmas[:, None]) ** 2, dim=1)
    # All samples take the same path, so that nothing waits for the mask to reach the host.
    kernel = torch.where(mask[:, None], kernel, (offset == 0).to(kernel.dtype))
    kernel = kernel.repeat_interleave(channels, dim=0)
    x = F.pad(images, (reach,) * 4, mode="reflect").view(
        1, batch * channels, height + 2 * reach, -1
    )
    x = F.conv2d(x, kernel[:, None, None, :], groups=batch * channels)
    x = F.conv2d(x, kernel[:, None, :, None], groups=batch * channels)
    return x.view(batch, channels, height, width)


def jitter_factors(
    keys: Tensor, *, strengths: tuple[float, float, float, float], probability: float
) -> Tensor:
    """Factors of a colour jitter, drawn for each sample.

    Args:
        keys: (B,) int64 from `sample_keys`.
        strengths: of brightness, contrast, saturation (each factor is U[max(0, 1 - s), 1 + s]) and
            hue (U[-s, s]).
        probability: that a sample is jittered; the others get (1, 1, 1, 0).

    Returns:
        (4, B) float32: brightness, contrast, saturation, hue.
    """
    draws = uniform(keys, _JITTER, 5)
    chosen = (draws[:, 4] < probability).to(draws.dtype)
    rows = []
    for number, (strength, neutral) in enumerate(zip(strengths, (1, 1, 1, 0), strict=True)):
        low = max(-strength, -1.0) if neutral else -strength
        rows.append(neutral + chosen * (low + (strength - low) * draws[:, number]))
    return torch.stack(rows)


def color_jitter_(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation, hue: always in this order.

    Differences from torchvision's `ColorJitter` on Pillow images, all on purpose:

    - the order is fixed, theirs is drawn for each image (a drawn order would need every order
      computed for every sample). Means, variances and saturations agree; up to 7 in 100 views
      fewer reach black, because theirs sometimes changes the contrast after clipping;
    - nothing is rounded to 8 bits between operations, and hue is not cut to 256 steps;
    - luma weighs (0.2989, 0.587, 0.114) as for torchvision's tensors, Pillow (0.299, 0.587, 0.114);
    - the mean of the contrast is not rounded to a grey level;
    - a sample that is not jittered goes through all four with neutral factors: the first three
      are then exact, the hue's return trip is exact to about 3e-7.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        factors: (4, B) from `jitter_factors`.
    """
    brightness, contrast, saturation, hue = factors.unbind(0)
    adjust_brightness_(images, brightness)
    adjust_contrast_(images, contrast)
    adjust_saturation_(images, saturation)
    return adjust_hue_(images, hue)
