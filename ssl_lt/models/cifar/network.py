"""What the networks for small images share: a stem, stages, and timm's interface."""

from __future__ import annotations

from typing import Literal, cast

from timm.layers import create_classifier
from timm.models import checkpoint_seq
from torch import Tensor, nn


def start_convolutions(network: nn.Module, fan: Literal["fan_in", "fan_out"]) -> None:
    """Kaiming-normal weights for every convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")


class CifarNetwork(nn.Module):
    """`conv1`, `bn1`, a ReLU, the stages `layer1`, `layer2`, ..., pooling, the classifier `fc`.

    A subclass calls `add_stage` for each stage, and `add_classifier` last: timm takes feature maps
    from the modules in the order in which they were added.

    Args:
        stem: `conv1`.
    """

    def __init__(self, stem: nn.Conv2d) -> None:
        super().__init__()
        self.in_chans = stem.in_channels
        self.grad_checkpointing = False
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(stem.out_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.feature_info = [{"num_chs": stem.out_channels, "reduction": 1, "module": "act1"}]
        self.stages: list[str] = []
        self.num_features = self.head_hidden_size = stem.out_channels

    def add_stage(self, blocks: nn.Sequential, *, channels: int, reduction: int) -> None:
        """Puts blocks after those that are there.

        Args:
            blocks: `layer{k}`, k counted from 1.
            channels: that they end with.
            reduction: pixels of the image to one of theirs, a side.
        """
        name = f"layer{len(self.stages) + 1}"
        self.add_module(name, blocks)
        self.stages.append(name)
        self.feature_info.append({"num_chs": channels, "reduction": reduction, "module": name})
        self.num_features = self.head_hidden_size = channels

    def add_classifier(self, num_classes: int, *, global_pool: str) -> None:
        """Pooling, and a classifier; no classes: none."""
        self.num_classes = num_classes
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=global_pool
        )

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
        self.add_classifier(num_classes, global_pool=global_pool or self.global_pool.pool_type)
        self.fc.to(self.conv1.weight.device)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: FBT001, FBT002
        """Patterns that timm groups parameters by, for layer-wise learning rates."""
        return {
            "stem": r"^conv1|bn1",
            "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)",
        }
