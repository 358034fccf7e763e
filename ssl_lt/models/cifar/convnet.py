"""A plain convolutional network for images of about 32 pixels that learns in few epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

# Pixels a side, of which the poolings leave one.
SMALLEST_IMAGE = 9


@dataclass(frozen=True)
class ConvNet:
    """Seven convolutions: a stem, and two in each of three stages, without shortcuts.

    A stage pools after its first convolution, so most of the work is done on small maps of many
    channels. The stem is 2x2 without padding: 32 pixels become 31, 15, 7 and 3. Both are of
    arXiv:2404.00498, whose stem whitens and whose activation is GELU. The stages have `width`,
    `4 * width` and `8 * width` channels. Keys are `conv1`, `bn1`, `layer2.0.0` (a convolution),
    `layer2.0.2` and `layer2.1.1` (batch norms), `fc`.

    Attributes:
        multiples: channels of the stages, in those of the stem.
        fan: which side of a convolution its Kaiming-normal weights are scaled by.
    """

    multiples: tuple[int, ...] = (1, 4, 8)
    fan: Literal["fan_in", "fan_out"] = "fan_in"

    def stem(self, in_channels: int, out_channels: int) -> nn.Conv2d:
        """`conv1`."""
        return nn.Conv2d(in_channels, out_channels, 2, bias=False)

    def stage(self, number: int, in_channels: int, out_channels: int) -> nn.Sequential:
        """Two convolutions, the first of them pooled; the same in every stage."""
        return nn.Sequential(
            _convolution(in_channels, out_channels, nn.MaxPool2d(2)),
            _convolution(out_channels, out_channels),
        )

    def reduction(self, number: int) -> int:
        """Pixels of the image to one after this stage, a side."""
        return int(2**number)


def _convolution(in_channels: int, out_channels: int, *pooling: nn.Module) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, *pooling, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
