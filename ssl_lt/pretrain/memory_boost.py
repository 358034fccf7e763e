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
from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.options import option
from ssl_lt.core.processes.distributed import gather_rows
from ssl_lt.core.random import slots
from ssl_lt.core.types import Epoch
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
        if not 0 <= self.beta < 1:
            raise ConfigError(f"--bcl.beta: {self.beta}, must be at least 0 and below 1")
        if self.num_ops < 1:
            raise ConfigError(f"--bcl.num-ops: {self.num_ops}, must be at least 1")
        if self.rule not in get_args(StrengthRule):
            raise ConfigError(f"--bcl.rule: {self.rule!r}, must be released or paper")
        check_at_least(self, {"slots": 0}, prefix="bcl.")


def averaged_loss(average: Tensor, seen: Tensor, losses: Tensor, *, beta: float) -> Tensor:
    """Computes beta M + (1 - beta) L, and L where there is no M yet.

    Args:
        average: (B,) M, the moving average so far.
        seen: (B,) bool, whether there is one.
        losses: (B,) L.
        beta: share of the old value.
    """
    return torch.where(seen, beta * average + (1 - beta) * losses, losses)


def boost_weights(average: Tensor, seen: Tensor) -> Tensor:
    """Weights w = 1/2 + (M - mean M) / (2 max |M - mean M|) over the samples seen so far.

    The average sample has 1/2. So have samples not seen yet, about which nothing is known, and
    all samples where all averages are equal.

    Args:
        average: (N,) M, the moving average of each sample's loss.
        seen: (N,) bool, whether there is one.

    Returns:
        (N,) in [0, 1].
    """
    total = average.masked_fill(~seen, 0).sum()
    deviation = (average - total / seen.sum().clamp(min=1)).masked_fill(~seen, 0)
    largest = deviation.abs().amax()
    return 0.5 + 0.5 * deviation / torch.where(largest > 0, largest, 1)


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
        rows = options.slots or num_samples
        self.memory = SampleMemory(
            "boost",
            {
                "average": torch.zeros(rows),
                "seen": torch.zeros(rows, dtype=torch.bool),
                "weight": torch.zeros(rows),
            },
        )

    def strength(self, index: Tensor) -> Tensor:
        """(B,) weights of the samples, in [0, 1]."""
        return self.memory.tables["weight"][self._rows(index)]

    @torch.no_grad()
    def observe(self, step: PairStep) -> None:
        """Moves the averages of the samples of all ranks.

        A sample that stands in the global batch more than once counts once, with its first loss;
        so do samples in one slot.
        A loss that is not finite is left out: through the mean it would spoil every weight.
        """
        average, seen = self.memory.tables["average"], self.memory.tables["seen"]
        index = self._rows(gather_rows(step.index))
        losses = gather_rows(step.losses.detach().to(average.dtype))
        ordered, order = index.sort(stable=True)
        # Every row of a sample takes over its first row, so they all write the same value.
        losses = losses[order[torch.searchsorted(ordered, index)]]
        known = losses.isfinite()
        old, was_seen = average[index], seen[index]
        new = averaged_loss(old, was_seen, losses, beta=self.options.beta)
        average[index] = torch.where(known, new, old)
        seen[index] = was_seen | known

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Sets the weights for the next epoch."""
        tables = self.memory.tables
        tables["weight"] = boost_weights(tables["average"], tables["seen"])

    def memories(self) -> Sequence[SampleMemory]:
        """The averages, whether there is one, and the weights in use."""
        return (self.memory,)

    def scores(self) -> Mapping[str, Tensor]:
        """`memorisation`: (N,) weights for the next epoch; high where memorised late."""
        weight = self.memory.tables["weight"]
        samples = torch.arange(self.num_samples, device=weight.device)
        return {"memorisation": weight[self._rows(samples)]}

    def _rows(self, index: Tensor) -> Tensor:
        """Where the memory keeps samples."""
        return slots(index, num_slots=self.options.slots) if self.options.slots else index
