"""Batches from pixels in memory: reading is indexing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import rank, world_size
from ssl_lt.core.random import permutation
from ssl_lt.core.types import Batch
from ssl_lt.data.tables.table import PixelTable


@dataclass(frozen=True)
class BatchSchedule:
    """Which rows are in which step: a function of (seed, epoch).

    The last, incomplete batch of an epoch is dropped: contrastive rows are gathered and must be as
    many on every rank, and the number of negatives must not change from step to step. The order
    differs in every epoch, so no sample is left out for good.

    Attributes:
        num_samples: rows of the training set.
        batch_size: global, over all ranks.
        seed: of the run.

    Raises:
        ConfigError: a batch larger than the set, or one the ranks cannot share equally.
    """

    num_samples: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"--batch-size {self.batch_size}: must be 1 or more")
        if self.batch_size > self.num_samples:
            raise ConfigError(
                f"--batch-size {self.batch_size}: the training set has only {self.num_samples} "
                "images"
            )
        if self.batch_size % world_size():
            raise ConfigError(
                f"--batch-size {self.batch_size}: must be a multiple of the {world_size()} "
                "processes that share it"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the set."""
        return self.num_samples // self.batch_size

    def rows(self, epoch: int) -> Tensor:
        """(steps, B / W) int64: this rank's rows r B / W ... (r + 1) B / W of each global batch."""
        return self.share(permutation(self.num_samples, seed=self.seed, epoch=epoch))

    def draws(self, epoch: int) -> Tensor | None:
        """(steps, B / W) int64: how often each of `rows` has come before in the epoch, if any."""
        return None

    def share(self, order: Tensor) -> Tensor:
        """(steps, B / W): this rank's part of something in the order of an epoch, (N,)."""
        steps, ranks = self.steps_per_epoch, world_size()
        shared = order[: steps * self.batch_size].view(steps, ranks, self.batch_size // ranks)
        return shared[:, rank()]


class TrainLoader:
    """Batches of a table in memory, which is moved to the device once.

    Args:
        table: the training set.
        plan: for as many samples as the table has.
        device: where batches are made.
    """

    def __init__(self, table: PixelTable, plan: BatchSchedule, *, device: torch.device) -> None:
        assert plan.num_samples == len(table)
        self.plan = plan
        self.batch_size = plan.batch_size
        self.steps_per_epoch = plan.steps_per_epoch
        self.pixels = table.pixels.to(device)
        self.labels = table.labels.to(device)

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from `first_step` on.

        Batch.images is (B / W, 3, H, W). The same for every call with the same numbers.
        """
        rows = self.plan.rows(number).to(self.pixels.device)
        draws = self.plan.draws(number)
        draws = None if draws is None else draws.to(self.pixels.device)
        for step in range(first_step, len(rows)):
            index = rows[step]
            draw = None if draws is None else draws[step]
            yield Batch(self.pixels[index], self.labels[index], index, draw)
