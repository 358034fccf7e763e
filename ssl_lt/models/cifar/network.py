"""What the networks for small images share: a stem, stages, and timm's interface."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Protocol, cast

from timm.layers import create_classifier
from timm.models import checkpoint_seq
from torch import Tensor, nn


def start_convolutions(network: nn.Module, fan: Literal["fan_in", "fan_out"]) -> None:
    """Kaiming-normal weights for every convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")


class Layout(Protocol):
    """What tells the networks of this family apart."""

    @property
    def multiples(self) -> tuple[int, ...]:
        """Channels of each stage, in those of the stem."""
        ...

    @property
    def fan(self) -> Literal["fan_in", "fan_out"]:
        """Which side of a convolution its Kaiming-normal weights are scaled by."""
        ...

    def stem(self, in_channels: int, out_channels: int) -> nn.Conv2d:
        """The first convolution, `conv1`."""
        ...

    def stage(self, number: int, in_channels: int, out_channels: int) -> nn.Sequential:
        """Blocks of `layer{number}`, counted from 1."""
        ...

    def reduction(self, number: int) -> int:
        """Pixels of the image to one after this stage, a side."""
        ...


class CifarNetwork(nn.Module):
    """`conv1`, `bn1`, a ReLU, the stages `layer1`, `layer2`, ..., pooling, the classifier `fc`.

    Args:
        layout: of the stem and the stages.
        width: channels of the stem.
        num_stages: the first ones of the layout; None: all of them.
        num_classes: 0 gives features instead of logits.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling before the classifier.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        width: int,
        num_stages: int | None = None,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.grad_checkpointing = False
        self.conv1 = layout.stem(in_chans, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        # timm takes feature maps from the modules in the order in which they were added.
        self.feature_info = [{"num_chs": width, "reduction": 1, "module": "act1"}]
        self.stages: list[str] = []
        channels = [width, *(width * multiple for multiple in layout.multiples[:num_stages])]
        for number, (num_in, num_out) in enumerate(pairwise(channels), start=1):
            name, reduction = f"layer{number}", layout.reduction(number)
            self.add_module(name, layout.stage(number, num_in, num_out))
            self.stages.append(name)
            self.feature_info.append({"num_chs": num_out, "reduction": reduction, "module": name})
        self.num_features = channels[-1]
        self.add_classifier(num_classes, global_pool=global_pool)
        start_convolutions(self, layout.fan)

    def add_classifier(self, num_classes: int, *, global_pool: str) -> None:
        """Pooling, and a classifier; no classes: none. Some poolings widen the features."""
        self.num_classes = num_classes
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=global_pool
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

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
        """(B, num_classes) logits, or (B, head_hidden_size) where there are no classes."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer; `nn.Identity` where there are no classes."""
        return cast(nn.Module, self.fc)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a fresh classifier of `num_classes` in place; 0 takes it away."""
        self.add_classifier(num_classes, global_pool=global_pool or self.global_pool.pool_type)
        self.fc.to(self.conv1.weight.device)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: FBT001, FBT002
        """Patterns that timm groups parameters by, for layer-wise learning rates."""
        return {
            "stem": r"^conv1|bn1",
            "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)",
        }
