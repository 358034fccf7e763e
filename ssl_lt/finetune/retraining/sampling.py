"""Which cached rows an epoch takes, and in which order: a function of (seed, epoch)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.random import permutation, sample_keys


def balanced_rows(labels: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Every class as often as the largest one has images; K n_max rows in random order.

    The class-aware sampler of arXiv:1910.09217: each class goes through its images in random order
    again and again. Its code puts 4 images of a class next to one another, which its batches of
    mixed classes do not need; here all rows are shuffled.

    Args:
        labels: (N,) int64 classes or other groups; those without rows are left out.
        seed: of the order.
        epoch: number.

    Returns:
        (K n_max,) int64 rows, where K classes have rows.
    """
    counts = torch.bincount(labels)
    return _cycled_rows(labels, int(counts.max()), seed=seed, epoch=epoch)


def instance_rows(labels: Tensor, *, seed: int, epoch: int) -> Tensor:
    """As many rows as `balanced_rows`, each image equally often (or once more than another)."""
    counts = torch.bincount(labels)
    number = int(counts.max() * (counts > 0).sum())
    return _cycled_rows(torch.zeros_like(labels), number, seed=seed, epoch=epoch)


def _cycled_rows(groups: Tensor, rows_per_group: int, *, seed: int, epoch: int) -> Tensor:
    """`rows_per_group` rows of each group, which goes through its own as often as needed."""
    index = torch.arange(len(groups), device=groups.device)
    order = torch.argsort(sample_keys(index, seed=seed, epoch=epoch, view=0))
    by_group = order[torch.argsort(groups[order], stable=True)]
    counts = torch.bincount(groups)
    start = (counts.cumsum(0) - counts)[counts > 0]
    place = torch.arange(rows_per_group, device=groups.device) % counts[counts > 0, None]
    rows = by_group[start[:, None] + place].flatten()
    return rows[permutation(len(rows), seed=seed, epoch=epoch).to(rows.device)]
