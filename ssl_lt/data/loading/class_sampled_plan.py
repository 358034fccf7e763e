"""Epochs in which rare classes come more often than they have images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.random import draw_id, permutation, sample_keys, seed_of, uniform
from ssl_lt.data.loading.plan import BatchSchedule

# Epoch -> (C,) probability that a draw is of each class; None: every image comes once.
ClassRates = Callable[[int], Tensor | None]

_STRATUM = draw_id("class stratum")
_WITHIN_CLASS = draw_id("order within a class")


def drawn_classes(rates: Tensor, num_draws: int, *, seed: int, epoch: int) -> Tensor:
    """Classes by inverse CDF of stratified uniform numbers, in random order.

    One number falls into each of the intervals [k / N, (k + 1) / N), so class j comes N p_j times
    give or take less than 2, where independent draws would vary by about sqrt(N p_j).

    Args:
        rates: (C,) probabilities p, or any multiple of them.
        num_draws: N.
        seed: of the run.
        epoch: number.

    Returns:
        (N,) int64; a class of rate 0 is not among them.
    """
    place = torch.arange(num_draws)
    within = uniform(sample_keys(place, seed=seed, epoch=epoch, view=0), _STRATUM)[:, 0]
    u = (permutation(num_draws, seed=seed, epoch=epoch) + within.to(torch.float64)) / num_draws
    cdf = torch.cumsum(rates.to(torch.float64), dim=0)
    return torch.searchsorted(cdf / cdf[-1], u, right=True)


def rows_of_classes(
    classes: Tensor, labels: Tensor, *, seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    """A row for each drawn class; all rows of a class come before one of them comes again.

    Args:
        classes: (M,) int64 that were drawn, each with a row at least.
        labels: (N,) int64 classes of the rows.
        seed: of the run.
        epoch: number.

    Returns:
        (M,) int64 rows, and (M,) int64 how often each has come before.
    """
    num_classes = int(labels.max()) + 1
    shuffled = permutation(len(labels), seed=seed_of(seed, _WITHIN_CLASS), epoch=epoch)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    counts = torch.bincount(labels, minlength=num_classes)
    order = torch.argsort(classes, stable=True)
    drawn = torch.bincount(classes, minlength=num_classes)
    number = torch.empty_like(classes)  # which draw of its class each one is
    number[order] = torch.arange(len(classes)) - _starts(drawn)[classes[order]]
    size = counts[classes]
    return by_class[_starts(counts)[classes] + number % size], number // size


def _starts(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts


@dataclass(frozen=True, eq=False)
class ClassSampledPlan(BatchSchedule):
    """As many rows an epoch as the set has, drawn by class: a function of (seed, epoch, rates).

    Attributes:
        labels: (N,) int64 classes of the rows, on the CPU.
        rates: what an epoch draws by; it must say the same whenever it is asked about an epoch
            under way, also in a run that was resumed there.
    """

    labels: Tensor
    rates: ClassRates

    def rows(self, epoch: int) -> Tensor:
        """As `BatchSchedule.rows`, of the rows that were drawn."""
        drawn = self._drawn(epoch)
        return super().rows(epoch) if drawn is None else self.share(drawn[0])

    def draws(self, epoch: int) -> Tensor | None:
        """(steps, B / W) int64: how often each of `rows` has come before in the epoch, if any."""
        drawn = self._drawn(epoch)
        return None if drawn is None else self.share(drawn[1])

    def _drawn(self, epoch: int) -> tuple[Tensor, Tensor] | None:
        rates = self.rates(epoch)
        if rates is None:
            return None
        classes = drawn_classes(rates.cpu(), self.num_samples, seed=self.seed, epoch=epoch)
        return rows_of_classes(classes, self.labels, seed=self.seed, epoch=epoch)
