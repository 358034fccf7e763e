"""Several experts in one network: a shared beginning, and later stages of each expert's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lt.models.cifar.network import CifarNetwork, Layout, start_convolutions

# The last two stages are the experts' own, as in arXiv:2010.01809: the shared part is the stem and
# stage 1 where there are three stages, and stage 2 besides where there are four.
_NUM_OWN_STAGES = 2

# Whose losses move the shared part.
SharedGradient = Literal["all", "first"]


class CifarExperts(CifarNetwork):
    """`CifarNetwork` whose last two stages exist once for each of E experts.

    The features are those of all experts, one after the other; `features.chunk(E, dim=1)` takes
    them apart. Keys of the shared part are those of the plain network; stage k of expert e is
    `experts.{e}.layer{k}`.

    Args:
        layout: of the plain network.
        width: channels of the stem.
        num_experts: E.
        expert_width: channels of the experts' stages, as a share of the plain network's. RIDE has
            3/4: 24 and 48 channels instead of 32 and 64.
        shared_gradient: "all" experts move the shared part, or only the "first".
        num_classes: 0 gives features instead of logits.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling before the classifier.
    """

    def __init__(  # noqa: PLR0913  (timm's own arguments among them)
        self,
        layout: Layout,
        *,
        width: int,
        num_experts: int,
        expert_width: float,
        shared_gradient: SharedGradient,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
    ) -> None:
        num_shared = len(layout.multiples) - _NUM_OWN_STAGES
        super().__init__(
            layout,
            width=width,
            num_stages=num_shared,
            num_classes=0,
            in_chans=in_chans,
            global_pool=global_pool,
        )
        self.shared_gradient = shared_gradient
        channels = [self.num_features]
        channels += [
            max(1, round(expert_width * width * multiple))
            for multiple in layout.multiples[num_shared:]
        ]
        self.experts = nn.ModuleList(
            _own_stages(layout, channels, first=num_shared + 1) for _ in range(num_experts)
        )
        start_convolutions(self.experts, layout.fan)
        self.num_features = num_experts * channels[-1]
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, E * D, h, w); the shared part runs once."""
        shared = super().forward_features(x)
        others = shared.detach() if self.shared_gradient == "first" else shared
        maps = [self.run(expert, others if e else shared) for e, expert in enumerate(self.experts)]
        return torch.cat(maps, dim=1)

    def shared_part(self) -> nn.ModuleDict:
        """What all experts share, under the plain network's keys: takes its weights."""
        return nn.ModuleDict({name: getattr(self, name) for name in ("conv1", "bn1", *self.stages)})

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: FBT001, FBT002
        """Patterns that timm groups parameters by; a layer is the same layer of all experts."""
        blocks = r"^(?:experts\.\d+\.)?layer(\d+)"
        return {"stem": r"^conv1|bn1", "blocks": blocks if coarse else blocks + r"\.(\d+)"}


def _own_stages(layout: Layout, channels: Sequence[int], *, first: int) -> nn.Sequential:
    """Stages `first`, `first + 1`, ... of the layout, from `channels[0]` to `channels[1]` etc."""
    numbered = enumerate(pairwise(channels), start=first)
    return nn.Sequential(OrderedDict((f"layer{k}", layout.stage(k, *ends)) for k, ends in numbered))
