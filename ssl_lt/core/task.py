"""What the engine can train."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.types import Batch, Epoch, StepOutput


class EpochAware(nn.Module):
    """A part of a task, such as a loss, that changes from epoch to epoch."""

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Called by the task it belongs to: before an epoch, and again on resume inside it."""
        raise NotImplementedError


class TrainTask(nn.Module):
    """A model together with its step.

    `forward` is the step, because DDP synchronises gradients only through the prepared module's
    forward: calling a method of the unwrapped module would train each rank apart.

    Attributes:
        backbone: the network that is evaluated and exported; called only as a whole.
    """

    backbone: nn.Module

    def forward(self, batch: Batch) -> StepOutput:
        """Loss and named terms of this rank's slice of the batch."""
        raise NotImplementedError

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Called on every rank before the first step of an epoch, and again on resume inside it."""

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Called on every rank after the last step of an epoch."""

    def memories(self) -> Sequence[SampleMemory]:
        """State that is saved with the checkpoint but is no buffer of the module."""
        return ()
