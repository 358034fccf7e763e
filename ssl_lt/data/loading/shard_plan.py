"""The order in which shards are read: nearly random, and from few places at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import world_size
from ssl_lt.core.random import draw_id, permutation, seed_of
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.options import DataOptions
from ssl_lt.data.tables.shards import ShardTable
from ssl_lt.data.tables.table import ImageTable

_MOST_STREAMS = 16  # unless the user says otherwise
_SHARD_ORDER = draw_id("order of shards")
_WITHIN_WINDOW = draw_id("order within a window")


def epoch_plan(
    full_train_set: ImageTable,
    rows: NDArray[np.int64],
    options: DataOptions,
    *,
    batch_size: int,
    seed: int,
) -> BatchSchedule:
    """Which of the rows trained on are in which step: near each other where they are in shards.

    Args:
        full_train_set: the training set before the split.
        rows: of it that are trained on.
        options: with window and streams.
        batch_size: global.
        seed: of the run.

    Raises:
        ConfigError: as `BatchSchedule` and `ShardPlan` say.
    """
    if not isinstance(full_train_set, ShardTable) or options.shard_window == 0:
        return BatchSchedule(len(rows), batch_size, seed)
    return ShardPlan(
        len(rows),
        batch_size,
        seed,
        shards=torch.from_numpy(full_train_set.shards[rows]).to(torch.int64),
        streams=options.shard_streams or _streams(batch_size),
        window=options.shard_window,
    )


def _streams(batch_size: int) -> int:
    """Not a function of the number of processes: they must not change the order."""
    return next(s for s in range(_MOST_STREAMS, 0, -1) if batch_size % s == 0)


@dataclass(frozen=True, eq=False)
class ShardPlan(BatchSchedule):
    """What a shuffle buffer approximates, as a function of (seed, epoch): every row comes once.

    The shards, in an order drawn for the epoch, are one line of N rows, which is cut into S equal
    streams; each is shuffled within windows of `window` / S rows, and a batch takes B / S rows of
    each. A rank has S / W streams that follow each other in the line, so it reads N / W rows of
    shards that hardly any other rank reads. The batches do not depend on W. At most S + B - 2 rows
    are left out of an epoch, others each time.

    Attributes:
        shards: (N,) int64, number of each row's shard.
        streams: S.
        window: rows of all streams together that are shuffled among each other.

    Raises:
        ConfigError: the processes cannot share the streams, or the streams a batch.
    """

    shards: Tensor
    streams: int
    window: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streams % world_size():
            raise ConfigError(
                f"--shard-streams {self.streams}: must be a multiple of the {world_size()} "
                "processes that share them"
            )
        if self.batch_size % self.streams:
            raise ConfigError(
                f"--shard-streams {self.streams}: must divide --batch-size {self.batch_size}"
            )

    def rows(self, epoch: int) -> Tensor:
        """As `BatchSchedule.rows`, in the order of the streams."""
        length, part = self.num_samples // self.streams, self.batch_size // self.streams
        line = self._line(epoch)[: self.streams * length].view(self.streams, length)
        window = torch.arange(length) // max(1, self.window // self.streams)
        noise = permutation(line.numel(), seed=seed_of(self.seed, _WITHIN_WINDOW), epoch=epoch)
        order = torch.argsort(noise.view_as(line) + window * line.numel(), dim=1)
        steps = self.steps_per_epoch
        streams = line.gather(1, order)[:, : steps * part].view(self.streams, steps, part)
        return self.share(streams.transpose(0, 1).flatten())

    def _line(self, epoch: int) -> Tensor:
        """(N,) rows, shard after shard."""
        num_shards = int(self.shards.max()) + 1
        order = permutation(num_shards, seed=seed_of(self.seed, _SHARD_ORDER), epoch=epoch)
        return torch.argsort(torch.argsort(order)[self.shards], stable=True)
