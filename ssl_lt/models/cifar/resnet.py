"""ResNets for pictures of about 32 pixels, with timm's interface and key names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from timm.models.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.models.cifar.network import CifarNetwork, start_convolutions

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
class CifarLayout:
    """What tells the ResNets of this family apart.

    Attributes:
        layers: blocks of each stage.
        shortcut: what a block does where it changes the shape.
        fan: which side of a convolution its Kaiming-normal weights are scaled by.
    """

    layers: tuple[int, ...]
    shortcut: Shortcut
    fan: Literal["fan_in", "fan_out"]


def stage(
    layout: CifarLayout, in_channels: int, out_channels: int, *, num_blocks: int, stride: int
) -> nn.Sequential:
    """Basic blocks of one width; the first of them changes shape where `stride` is not 1."""
    first = None if stride == 1 else layout.shortcut(in_channels, out_channels, stride)
    blocks = [BasicBlock(in_channels, out_channels, stride, downsample=first)]
    blocks += [BasicBlock(out_channels, out_channels) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)


class CifarResNet(CifarNetwork):
    """ResNet of basic blocks with a 3x3 stride-1 stem and no pooling after it.

    Keys are those of torchvision and timm: `conv1`, `bn1`, `layer1.0.conv1`,
    `layer2.0.downsample.0`, `fc`. Stage k has `width * 2^(k-1)` channels and, from the second on,
    half the resolution of the stage before.

    Args:
        layout: stages, shortcuts and initial weights.
        width: channels of the first stage.
        num_classes: 0 gives features instead of logits.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling before the classifier.
    """

    def __init__(
        self,
        layout: CifarLayout,
        *,
        width: int,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
    ) -> None:
        super().__init__(nn.Conv2d(in_chans, width, 3, padding=1, bias=False))
        for k, num_blocks in enumerate(layout.layers):
            out, stride = width * 2**k, 1 if k == 0 else 2
            blocks = stage(layout, self.num_features, out, num_blocks=num_blocks, stride=stride)
            self.add_stage(blocks, channels=out, reduction=2**k)
        self.add_classifier(num_classes, global_pool=global_pool)
        start_convolutions(self, layout.fan)
