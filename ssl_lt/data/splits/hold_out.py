"""Which images of each class are held out of training, or drawn first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lt.core.errors import shortened
from ssl_lt.core.random import sample_keys
from ssl_lt.data.splits.whole_groups import draw_groups


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


def held_out_rows(
    labels: Tensor, index: Tensor, *, share: float, seed: int, group_ids: Tensor | None = None
) -> Tensor:
    """(N,) bool: the training rows that are held out for model selection.

    In each class of n >= 2 images, max(1, floor(share * n)) of them, so that at least one is left
    to fit; a class of one image is fitted only. A function of the seed, the labels and the images'
    index: the order of the rows does not matter.

    Images that belong together are held out together, and each class comes as near to its number as
    that allows, see `draw_groups`.

    Args:
        labels: (N,) int64, none negative.
        index: (N,) int64, the images' rows in their data set.
        share: of each class, in (0, 1).
        seed: of the choice.
        group_ids: (N,) int64, equal where images belong together; None: each stands alone.
    """
    counts = labels.bincount()
    quota = (counts * share).floor().long().clamp(min=1)
    quota = torch.minimum(quota, counts - 1)
    if group_ids is None:
        return rank_within_class(labels, index, seed=seed) < quota[labels]
    quota = quota.clamp(min=0)  # of a class without an image
    order = torch.argsort(index)  # so that the first row of a group is always the same
    held = torch.empty(len(labels), dtype=torch.bool)
    held[order] = draw_groups(
        labels[order],
        group_ids[order],
        sample_keys(index[order], seed=seed, epoch=0, view=0),
        quota=quota,
        least=quota.clamp(max=1),
    )
    return held


def missing_classes(
    labels: Tensor, held: Tensor, class_names: Sequence[str], *, grouped_by: str, part: str
) -> list[str]:
    """A sentence on the classes that cannot be in both parts, if there are any.

    Args:
        labels: (N,) int64, none negative.
        held: (N,) bool, of `held_out_rows`.
        class_names: (C,).
        grouped_by: what says which images belong together; "" where nothing does.
        part: "test" or "validation".
    """
    counts = labels[held].bincount(minlength=len(class_names)).tolist()
    missing = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if not (missing and grouped_by):
        return []
    return [
        f"warning: no image of {shortened(missing)} is held out for {part}, as images that belong "
        f"together ({grouped_by}) stay in one part"
    ]
