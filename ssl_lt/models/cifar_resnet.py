"""ResNets for pictures of about 32 pixels, with timm's interface and key names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from timm.layers import create_classifier
from timm.models import checkpoint_seq
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


def start_convolutions(network: nn.Module, fan: Literal["fan_in", "fan_out"]) -> None:
    """Kaiming-normal weights for every convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")


class CifarResNet(nn.Module):
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
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.grad_checkpointing = False
        self.conv1 = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.feature_info = [{"num_chs": width, "reduction": 1, "module": "act1"}]
        self.stages = [f"layer{k + 1}" for k in range(len(layout.layers))]
        channels = width
        for k, (name, num_blocks) in enumerate(zip(self.stages, layout.layers, strict=True)):
            out, stride = width * 2**k, 1 if k == 0 else 2
            blocks = stage(layout, channels, out, num_blocks=num_blocks, stride=stride)
            self.add_module(name, blocks)
            self.feature_info.append({"num_chs": out, "reduction": 2**k, "module": name})
            channels = out
        self.num_features = self.head_hidden_size = channels
        self.global_pool, self.fc = create_classifier(channels, num_classes, pool_type=global_pool)
        start_convolutions(self, layout.fan)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, num_features, h, w)."""
        x = self.act1(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = self.run(getattr(self, name), x)
        return x

    def run(self, blocks: nn.Module, x: Tensor) -> Tensor:
        """Blocks, or stages of them, one after the other; computed again if checkpointed."""
        if not self.grad_checkpointing:
            return cast(Tensor, blocks(x))
        stages = [part if isinstance(part, nn.Sequential) else [part] for part in blocks.children()]
        return cast(Tensor, checkpoint_seq(stages, x, flatten=True))

    def set_grad_checkpointing(self, enable: bool = True) -> None:  # noqa: FBT001, FBT002
        """Keeps the input of each block and computes the rest again (timm's signature)."""
        self.grad_checkpointing = enable

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:  # noqa: FBT001, FBT002
        """Pools a feature map; then classifies, unless `pre_logits` (timm's signature)."""
        x = self.global_pool(x)
        return x if pre_logits else cast(Tensor, self.fc(x))

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_classes) logits, or (B, num_features) where there are no classes."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer; `nn.Identity` where there are no classes."""
        return cast(nn.Module, self.fc)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a fresh classifier of `num_classes` in place; 0 takes it away."""
        self.num_classes = num_classes
        pool = global_pool or self.global_pool.pool_type
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=pool
        )
        self.fc.to(self.conv1.weight.device)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: FBT001, FBT002
        """Patterns that timm groups parameters by, for layer-wise learning rates."""
        return {
            "stem": r"^conv1|bn1",
            "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)",
        }
