"""Memory boost: the plug-in of Boosted Contrastive Learning (BCL, arXiv:2205.12693).

Not to be confused with balanced contrastive learning, a supervised loss with the same acronym.

Networks memorise frequent patterns first, so a sample whose contrastive loss stays high is
likely one of the tail. The plug-in keeps a moving average of each sample's loss and turns it into
a weight in [0, 1], with which `BoostedView` augments the sample in the next epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ssl_lt.augment.boosted import StrengthRule
from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.options import option
from ssl_lt.core.random import slots
from ssl_lt.core.types import Epoch
from ssl_lt.losses.memorization import MemorizationMemory
from ssl_lt.pretrain.two_views import PairStep, Plugin


@dataclass(frozen=True)
class MemoryBoostOptions:
    """Of the memory and of the view it drives.

    Raises:
        ConfigError: `beta` outside [0, 1), no operation, an unknown rule, or fewer than 0 slots.
    """

    beta: float = 0.97
    """Momentum of each sample's average loss, per epoch."""
    num_ops: int = option(1, page="all")
    """RandAugment operations per view: 1 with SimCLR (BCL-I), 2 with SDCLR (BCL-D)."""
    rule: StrengthRule = option("released", page="all")
    """How a sample's weight sets the magnitude: as in the released code or as in the paper."""
    slots: int = option(0, page="all")
    """Number of averages in the memory (0 = one per image). With N images in M slots, a fraction of
    about 1 - exp(-N/M) shares its average with others."""

    def __post_init__(self) -> None:
        check_range(self, {"beta": "[0, 1)"}, prefix="bcl.")
        check_at_least(self, {"num_ops": 1, "slots": 0}, prefix="bcl.")
        if self.rule not in get_args(StrengthRule):
            raise ConfigError(f"--bcl.rule: {self.rule!r}, must be released or paper")


class MemoryBoost(Plugin):
    """Remembers each sample's loss and sets its augmentation strength for the next epoch.

    In the first epoch the strength is 0. Memory and weights both belong to the checkpoint: inside
    an epoch the weights are those of the epoch before.

    The memory has a row a sample, or a fixed number of slots that samples are spread over by a hash
    of their row, so that it does not grow with a stream; samples in one slot then share an average,
    and mean and maximum of the weights are over slots.

    Args:
        options: beta and slots; the other two belong to the view.
        num_samples: N, size of the training set.
    """

    def __init__(self, options: MemoryBoostOptions, *, num_samples: int) -> None:
        super().__init__()
        self.options = options
        self.num_samples = num_samples
        self.memory = MemorizationMemory(options.slots or num_samples, beta=options.beta)

    def strength(self, index: Tensor) -> Tensor:
        """(B,) weights of the samples, in [0, 1]."""
        return self.memory.strength(self._rows(index))

    @torch.no_grad()
    def observe(self, step: PairStep) -> None:
        """Moves the averages of the samples of all ranks; of samples in one slot, the first's."""
        self.memory.update(self._rows(step.index), step.losses)

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Sets the weights for the next epoch."""
        self.memory.refresh()

    def memories(self) -> Sequence[SampleMemory]:
        """The averages, whether there is one, and the weights in use."""
        return (self.memory,)

    def scores(self) -> Mapping[str, Tensor]:
        """`memorisation`: (N,) weights for the next epoch; high where memorised late."""
        weight = self.memory.weights
        samples = torch.arange(self.num_samples, device=weight.device)
        return {"memorisation": weight[self._rows(samples)]}

    def _rows(self, index: Tensor) -> Tensor:
        """Where the memory keeps samples."""
        return slots(index, num_slots=self.options.slots) if self.options.slots else index
