"""Which images of each class are held out of training, or drawn first."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.random import sample_keys


def rank_within_class(labels: Tensor, index: Tensor, *, seed: int, draw: int = 0) -> Tensor:
    """(N,) int64: where each row stands in a random order of its class, from 0.

    A function of the seed, the draw, the labels and the images' index: the order of the rows does
    not matter.

    Args:
        labels: (N,) int64, none negative.
        index: (N,) int64, the images' rows in their data set.
        seed: of the order.
        draw: number of the order.
    """
    keys = sample_keys(index, seed=seed, epoch=draw, view=0)
    order = torch.argsort(keys, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    counts = labels.bincount()
    places = torch.empty_like(labels)
    places[order] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    return places


def held_out_rows(labels: Tensor, index: Tensor, *, share: float, seed: int) -> Tensor:
    """(N,) bool: the training rows that are held out for model selection.

    In each class of n >= 2 images, max(1, floor(share * n)) of them, so that at least one is left
    to fit; a class of one image is fitted only. A function of the seed, the labels and the images'
    index: the order of the rows does not matter.

    Args:
        labels: (N,) int64, none negative.
        index: (N,) int64, the images' rows in their data set.
        share: of each class, in (0, 1).
        seed: of the choice.
    """
    counts = labels.bincount()
    quota = (counts * share).floor().long().clamp(min=1)
    quota = torch.minimum(quota, counts - 1)
    return rank_within_class(labels, index, seed=seed) < quota[labels]
