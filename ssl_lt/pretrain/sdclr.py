"""SDCLR: contrasts a network with its own pruned self (arXiv:2106.02990)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.types import Epoch
from ssl_lt.models.pruned_twin import PrunedTwin, magnitude_mask, prunable_weights
from ssl_lt.pretrain.disagreement import Disagreement
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.simclr import SimCLR
from ssl_lt.pretrain.temperature import TemperatureOptions


@dataclass(frozen=True)
class SDCLROptions:
    """Options of self-damaging contrastive learning."""

    prune_ratio: float = 0.9
    """Share of the convolution weights that the second branch does without; of a transformer or a
    ConvNeXt, of its linear and convolution weights but for patch embedding and stem (our
    extension)."""

    def __post_init__(self) -> None:
        check_range(self, {"prune_ratio": "[0, 1)"}, prefix="sdclr.")


class SDCLR(SimCLR):
    """View 1 goes through the dense branch, view 2 through the pruned one; NT-Xent joins them.

    The mask is made anew at the start of each epoch and saved with the checkpoint, so that a run
    resumed inside an epoch goes on with the mask the epoch began with. `backbone` is the dense
    branch, which is what is evaluated and exported.

    The released code runs the pruned branch twice a step, once without gradient, and adds the
    gradients of two passes. We run it once and take one joint gradient, which is the same; but
    the running statistics of the pruned branch's batch norms are then updated once a step and not
    twice (momentum 0.1, not 0.19). Only that branch in evaluation would see it, and it never is.

    Args:
        parts: networks, view and plug-ins.
        temperature: constant or scheduled.
        options: prune ratio.
        seed: of the run.

    Raises:
        ConfigError: a backbone with nothing to prune.
    """

    def __init__(
        self,
        parts: TwoViewParts,
        *,
        temperature: TemperatureOptions,
        options: SDCLROptions,
        seed: int,
    ) -> None:
        super().__init__(parts, temperature=temperature, seed=seed)
        weights = prunable_weights(parts.backbone)
        if not weights:
            raise ConfigError(
                "--backbone: has no convolution and no linear layer that --method sdclr could prune"
            )
        self.prune_ratio = options.prune_ratio
        self.twin = PrunedTwin(parts.backbone, parts.projector)
        self.plugins.append(Disagreement(parts.num_samples))
        # A memory and not a buffer: DDP would broadcast eleven million booleans every step.
        device = next(iter(weights.values())).device
        mask = torch.ones(sum(w.numel() for w in weights.values()), dtype=torch.bool, device=device)
        epoch = torch.tensor(-1, device=device)
        self.pruning = SampleMemory("pruning", {"mask": mask, "epoch": epoch})

    def embed(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Dense projections of view 1 and pruned projections of view 2, each (B, D)."""
        mask = self.pruning.tables["mask"]
        dense: Tensor = self.projector(self.backbone(x1))
        pruned: Tensor = self.twin(x2, mask, backbone=self.backbone, projector=self.projector)
        return dense, pruned

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Prunes by the weights as they are, unless this epoch's mask came with a checkpoint."""
        super().on_epoch_start(epoch)
        tables = self.pruning.tables
        if int(tables["epoch"]) == epoch.number:
            return
        weights = list(prunable_weights(self.backbone).values())
        tables["mask"] = magnitude_mask(weights, prune_ratio=self.prune_ratio)
        tables["epoch"] = torch.full_like(tables["epoch"], epoch.number)

    def memories(self) -> Sequence[SampleMemory]:
        """The mask, and what the plug-ins remember."""
        return [*super().memories(), self.pruning]
