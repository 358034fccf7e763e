"""A balanced test set, and what is left to train on: no image is in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.core.random import sample_keys
from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.data.long_tail import subsample
from ssl_lt.data.splits.whole_groups import draw_groups

Rows = NDArray[np.int64]


def number_contents(parts: Sequence[Sequence[ImageStats]]) -> list[Rows]:
    """A number for each image of each part: the same for equal pixels, -1 for unreadable ones."""
    numbers: dict[str, int] = {}

    def number(image: ImageStats) -> int:
        return numbers.setdefault(image.content, len(numbers)) if image.content else -1

    return [np.array([number(image) for image in part], dtype=np.int64) for part in parts]


def balanced_test(
    labels: Rows,
    contents: Rows,
    *,
    class_names: Sequence[str],
    per_class: int | None,
    seed: int,
    group_ids: Tensor | None = None,
) -> Rows:
    """As many rows of each class, no image twice and none that stands under several classes.

    Args:
        labels: (N,) -1 where unknown.
        contents: (N,) of `number_contents`.
        class_names: (C,).
        per_class: images of each class; None: as many as the smallest class has.
        seed: which ones.
        group_ids: (N,) equal where images belong together; they are then drawn from some groups,
            the others being left to train on.

    Returns:
        (C * per_class,) rows, ascending.

    Raises:
        DataError: a class has fewer such images; names it and how many it has.
    """
    candidates = np.where(_is_test_candidate(labels, contents), labels, -1)
    among = "readable, without copies, under one class only"
    if group_ids is not None:
        assert per_class is not None
        quota = torch.full((len(class_names),), per_class)
        drawn = _of_some_groups(
            labels, contents >= 0, candidates, group_ids, quota=quota, seed=seed
        )
        candidates = np.where(drawn, candidates, -1)
        among += ", in groups that leave others to train on"
    counts = np.bincount(candidates[candidates >= 0], minlength=len(class_names))
    wanted = int(counts.min()) if per_class is None else per_class
    smallest = int(counts.argmin())
    if counts[smallest] < max(wanted, 1):
        raise DataError(
            f"class {class_names[smallest]!r} has {counts[smallest]} images to test on "
            f"({among}), {max(wanted, 1)} are asked for"
        )
    return np.sort(subsample(candidates, [wanted] * len(class_names), seed=seed))


def _of_some_groups(
    labels: Rows,
    readable: NDArray[np.bool_],
    candidates: Rows,
    group_ids: Tensor,
    *,
    quota: Tensor,
    seed: int,
) -> NDArray[np.bool_]:
    """(N,) the rows of groups that have about so many candidates of each class."""
    drawn = draw_groups(
        torch.from_numpy(np.where(readable, labels, -1)),
        group_ids,
        sample_keys(torch.arange(len(labels)), seed=seed, epoch=0, view=0),
        quota=quota,
        least=quota,
        candidates=torch.from_numpy(candidates),
    )
    rows: NDArray[np.bool_] = drawn.numpy()
    return rows


def trainable(labels: Rows, barred: NDArray[np.bool_], *, class_names: Sequence[str]) -> Rows:
    """Labels of the training part in which what cannot be trained on has -1.

    Args:
        labels: (N,) of the training part.
        barred: (N,) which rows cannot: unreadable ones, copies of what is tested, its groups.
        class_names: (C,).

    Raises:
        DataError: nothing is left of a class; names it.
    """
    kept = np.where(barred, -1, labels)
    counts = np.bincount(kept[kept >= 0], minlength=len(class_names))
    if counts.min() == 0:
        name = class_names[int(counts.argmin())]
        raise DataError(f"class {name!r}: the test set leaves no image of it to train on")
    return kept


def _is_test_candidate(labels: Rows, contents: Rows) -> NDArray[np.bool_]:
    """The first labelled row of each readable image that has one label only."""
    known = np.flatnonzero((labels >= 0) & (contents >= 0))
    pairs = np.unique(np.stack([contents[known], labels[known]]), axis=1)
    images, num_labels = np.unique(pairs[0], return_counts=True)
    first_of, first = np.unique(contents[known], return_index=True)
    out = np.zeros(len(labels), dtype=np.bool_)
    out[known[first[np.isin(first_of, images[num_labels == 1])]]] = True
    return out
