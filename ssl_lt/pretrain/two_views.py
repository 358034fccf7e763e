"""What every pretraining method shares: two views, an embedding each, a loss a sample, plug-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.random import sample_keys
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, Epoch, StepOutput, View


@dataclass(frozen=True)
class PairStep:
    """One step as the plug-ins see it; every tensor holds this rank's rows.

    Attributes:
        index: (B,) int64, rows in the training set.
        z1, z2: (B, D) projections of the two views, any norm, with gradient.
        losses: (B,) contrastive loss a sample, with gradient.
        epoch: where training stands.
    """

    index: Tensor
    z1: Tensor
    z2: Tensor
    losses: Tensor
    epoch: Epoch


class Plugin(nn.Module):
    """Adds to any two-view method: memory boost, geometric harmonization."""

    def strength(self, index: Tensor) -> Tensor | None:
        """(B,) augmentation strength in [0, 1] of each sample, or None to leave views alone."""
        return None

    def terms(self, step: PairStep) -> dict[str, Tensor]:
        """Scalars with gradient that are added to the loss, by name."""
        return {}

    def observe(self, step: PairStep) -> None:
        """Updates the plug-in's memory after the losses are known; runs without gradient."""

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Called before the first step of an epoch, and again on resume inside it."""

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Called after the last step of an epoch."""

    def memories(self) -> Sequence[SampleMemory]:
        """State to save with the checkpoint."""
        return ()

    def scores(self) -> Mapping[str, Tensor]:
        """What is written to `scores/` after each epoch: name -> (N,) or (K,) tensor."""
        return {}


class TwoViewTask(TrainTask):
    """A method is how two views are embedded and compared; subclasses write those two.

    They also set `backbone`, the dense network that is evaluated and exported.

    Args:
        view: makes one augmented view of a batch; a pure function of the samples' keys.
        plugins: add strength, terms and memory; their order is the order of the flags.
        seed: of the run.
    """

    epoch_number: Tensor
    backbone: nn.Module

    def __init__(self, view: View, plugins: Sequence[Plugin], *, seed: int) -> None:
        super().__init__()
        self.view = view
        self.plugins = nn.ModuleList(plugins)
        self.seed = seed
        self.epoch = Epoch(number=0, total=1, steps=1)
        # On the device and not a Python number, so that a compiled step is not compiled anew.
        self.register_buffer("epoch_number", torch.zeros((), dtype=torch.int64), persistent=False)

    def embed(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (B, D) of the two views, each (B, 3, S, S)."""
        raise NotImplementedError

    def pair_losses(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B,) loss a sample from the two (B, D) projections."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> StepOutput:
        """Views, projections, losses, plug-ins."""
        strength = self._strength(batch.index)
        x1, x2 = (self._view(batch, number, strength) for number in (0, 1))
        z1, z2 = self.embed(x1, x2)
        # Outside autocast's reach: similarities divided by a small temperature need fp32.
        z1, z2 = z1.float(), z2.float()
        with torch.autocast(z1.device.type, enabled=False):
            losses = self.pair_losses(z1, z2)
            step = PairStep(batch.index, z1, z2, losses, self.epoch)
            terms = {"contrast": losses.mean()}
            for plugin in self._plugins():
                terms |= plugin.terms(step)
            with torch.no_grad():
                for plugin in self._plugins():
                    plugin.observe(step)
        loss = torch.stack(list(terms.values())).sum()
        detached = {name: term.detach() for name, term in terms.items()}
        return StepOutput(loss, detached, losses.detach())

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Tells the views and the plug-ins where training stands."""
        self.epoch = epoch
        self.epoch_number.fill_(epoch.number)
        for plugin in self._plugins():
            plugin.on_epoch_start(epoch)

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Lets the plug-ins close the epoch."""
        for plugin in self._plugins():
            plugin.on_epoch_end(epoch)

    def memories(self) -> Sequence[SampleMemory]:
        """All plug-ins' memories."""
        return [memory for plugin in self._plugins() for memory in plugin.memories()]

    def scores(self) -> Mapping[str, Tensor]:
        """All plug-ins' scores."""
        return {k: v for plugin in self._plugins() for k, v in plugin.scores().items()}

    def _plugins(self) -> Sequence[Plugin]:
        return cast("Sequence[Plugin]", self.plugins)

    def _strength(self, index: Tensor) -> Tensor | None:
        for plugin in self._plugins():
            strength = plugin.strength(index)
            if strength is not None:
                return strength
        return None

    def _view(self, batch: Batch, number: int, strength: Tensor | None) -> Tensor:
        keys = sample_keys(batch.index, seed=self.seed, epoch=self.epoch_number, view=number)
        with torch.no_grad():
            if batch.images.ndim == 5:
                return self.view.after_crop(batch.images[:, number], keys, strength)
            return self.view(batch.images, keys, strength)
