"""Batches with a second image for each of theirs, drawn from all classes alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.random import draw_id, seed_of
from ssl_lt.data.loading.class_sampled_plan import drawn_classes, rows_of_classes
from ssl_lt.data.loading.plan import BatchSchedule

_PARTNERS = draw_id("partners")
# Partners count their draws from here, so that no key of theirs is one of an image in its own turn.
_FIRST_DRAW = 1 << 22


@dataclass(frozen=True, eq=False)
class PairedPlan(BatchSchedule):
    """Each step's rows, and behind them as many partners: a function of (seed, epoch).

    Every class that has images is drawn equally often, and uses each image before it repeats one.

    Attributes:
        images: which rows are in which step.
        labels: (N,) int64 classes of the rows, on the CPU.
    """

    images: BatchSchedule
    labels: Tensor

    def rows(self, epoch: int) -> Tensor:
        """(steps, 2 B / W) int64: this rank's rows of `images`, then their partners."""
        return torch.cat((self.images.rows(epoch), self.share(self._partners(epoch)[0])), dim=1)

    def draws(self, epoch: int) -> Tensor | None:
        """(steps, 2 B / W) int64: tells the times apart that a row comes in the epoch."""
        partners = self.share(self._partners(epoch)[1]) + _FIRST_DRAW
        own = self.images.draws(epoch)
        return torch.cat((torch.zeros_like(partners) if own is None else own, partners), dim=1)

    def _partners(self, epoch: int) -> tuple[Tensor, Tensor]:
        # A seed of their own: a class-balanced sampler would draw the same rows.
        seed, has_images = seed_of(self.seed, _PARTNERS), torch.bincount(self.labels) > 0
        classes = drawn_classes(has_images, self.num_samples, seed=seed, epoch=epoch)
        return rows_of_classes(classes, self.labels, seed=seed, epoch=epoch)
