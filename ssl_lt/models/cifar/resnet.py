"""ResNets for pictures of about 32 pixels, with timm's key names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from timm.models.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

# (channels in, channels out, stride) -> what the shortcut of a block does where shapes change.
Shortcut = Callable[[int, int, int], nn.Module]


class PaddedShortcut(nn.Module):
    """Option A of arXiv:1512.03385: takes every stride-th pixel and pads channels with zeros."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        extra = out_channels - in_channels
        self.before, self.after = extra // 2, extra - extra // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def projected_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Option B of arXiv:1512.03385: a strided 1x1 convolution and a batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


@dataclass(frozen=True)
class ResNet:
    """Basic blocks, a 3x3 stem of stride 1 and no pooling after it.

    Keys are those of torchvision and timm: `conv1`, `bn1`, `layer1.0.conv1`,
    `layer2.0.downsample.0`, `fc`. Stage k has `width * 2^(k-1)` channels and, from the second on,
    half the resolution of the stage before.

    Attributes:
        layers: blocks of each stage.
        shortcut: what a block does where it changes the shape.
        fan: which side of a convolution its Kaiming-normal weights are scaled by.
    """

    layers: tuple[int, ...]
    shortcut: Shortcut
    fan: Literal["fan_in", "fan_out"]

    @property
    def multiples(self) -> tuple[int, ...]:
        """Channels of each stage, in those of the stem."""
        return tuple(2**k for k in range(len(self.layers)))

    def stem(self, in_channels: int, out_channels: int) -> nn.Conv2d:
        """`conv1`."""
        return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)

    def stage(self, number: int, in_channels: int, out_channels: int) -> nn.Sequential:
        """Basic blocks of one width; the first of all but stage 1 has a stride of 2."""
        stride = 1 if number == 1 else 2
        first = None if number == 1 else self.shortcut(in_channels, out_channels, stride)
        blocks = [BasicBlock(in_channels, out_channels, stride, downsample=first)]
        num_more = self.layers[number - 1] - 1
        blocks += [BasicBlock(out_channels, out_channels) for _ in range(num_more)]
        return nn.Sequential(*blocks)

    def reduction(self, number: int) -> int:
        """Pixels of the image to one after this stage, a side."""
        return int(2 ** (number - 1))
