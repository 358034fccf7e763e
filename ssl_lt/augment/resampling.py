"""Resizing as a matrix product along an axis.

A resize is two small matrix products a sample, one along each axis; the crop's position, the
antialiasing and the flip are all in the matrices, so one batched product does everything.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ssl_lt.core.types import Interpolation

_TABLE_BYTES = 16 << 20


def on_host(x: Tensor) -> bool:
    """Whether steps may differ for a CPU: not on other devices, nor where they are compiled."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


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
        starts: (B,) int64, first pixel of the crop.
        lengths: (B,) int64, pixels in the crop, from 1 to extent - start.
        size: number of outputs.
        extent: number of pixels of the whole axis.
        interpolation: which filter.
        flips: (B,) bool, which samples come out mirrored.

    Returns:
        (B, size, extent) float32.
    """
    if not on_host(starts) or 2 * 4 * extent**3 * size > _TABLE_BYTES:
        return _computed(
            starts, lengths, size=size, extent=extent, interpolation=interpolation, flips=flips
        )
    # A small image has few different crops: to look a matrix up takes a tenth of the time.
    number = (lengths - 1) * extent + starts
    if flips is not None:
        number = number + extent**2 * flips
    return _table(size, extent, interpolation).index_select(0, number)


@lru_cache(maxsize=4)
def _table(size: int, extent: int, interpolation: Interpolation) -> Tensor:
    """(2 · extent², size, extent) matrices by mirroring, length and start, in this order.

    Crops that would reach out of the image have a place too, but what stands there means nothing.
    """
    mirrored, lengths, starts = torch.cartesian_prod(
        torch.arange(2), torch.arange(1, extent + 1), torch.arange(extent)
    ).unbind(1)
    return _computed(
        starts,
        lengths,
        size=size,
        extent=extent,
        interpolation=interpolation,
        flips=mirrored.bool(),
    )


def _computed(
    starts: Tensor,
    lengths: Tensor,
    *,
    size: int,
    extent: int,
    interpolation: Interpolation,
    flips: Tensor | None,
) -> Tensor:
    """`resampling_matrix` from its definition."""
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
