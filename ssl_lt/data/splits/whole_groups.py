"""Which groups of images are held out: whole ones, with about so many images of each class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Contents = list[list[tuple[int, int]]]  # of each group: class and number of images


def draw_groups(
    labels: Tensor,
    group_ids: Tensor,
    keys: Tensor,
    *,
    quota: Tensor,
    least: Tensor,
    candidates: Tensor | None = None,
) -> Tensor:
    """(N,) bool: the rows of the groups that are held out.

    The groups come in random order, and one is taken if it brings the classes nearer to their
    quotas, each class weighed by its size. A class that then has fewer than its least number, the
    one in the fewest groups first, gets those of its groups that spoil the others least. No group
    is taken that leaves a class without an image. Of groups of one image each these are the first
    ones of each class.

    Args:
        labels: (N,) int64, -1 for rows that cannot be trained on.
        group_ids: (N,) int64, equal where images belong together.
        keys: (N,) int64, random; the one of a group's first row says when it comes.
        quota: (C,) int64 images of each class to hold out.
        least: (C,) int64, of these what there has to be if possible.
        candidates: (N,) int64 labels of the rows that count as held out, -1 for others; None: all.
    """
    _, first, group = np.unique(group_ids.numpy(), return_index=True, return_inverse=True)
    order = np.argsort(keys.numpy()[first], kind="stable").tolist()
    there = _contents(group, labels, len(quota))
    counted = there if candidates is None else _contents(group, candidates, len(quota))
    drawn = _Drawn(there, counted, quota.tolist())
    for g in order:
        if drawn.cost(g) < 0 and drawn.leaves_every_class(g):
            drawn.take(g)
    groups_of: list[list[int]] = [[] for _ in drawn.quota]
    for g in order:
        for c, _ in counted[g]:
            groups_of[c].append(g)
    for c in sorted(range(len(quota)), key=lambda c: len(groups_of[c])):
        while drawn.held[c] < int(least[c]):
            possible = [g for g in groups_of[c] if drawn.leaves_every_class(g)]
            if not possible:
                break
            drawn.take(min(possible, key=drawn.cost))
    is_taken = np.zeros(len(order), dtype=np.bool_)
    is_taken[list(drawn.taken)] = True
    return torch.from_numpy(is_taken[group])


class _Drawn:
    """The groups that are taken so far.

    Args:
        there: images of each class in each group.
        counted: of these, the ones that count as held out.
        quota: images of each class to hold out.
    """

    def __init__(self, there: _Contents, counted: _Contents, quota: list[int]) -> None:
        self.there, self.counted, self.quota = there, counted, quota
        self.left, self.size = _totals(there, len(quota)), _totals(counted, len(quota))
        self.held, self.taken = [0] * len(quota), set[int]()

    def cost(self, g: int) -> float:
        """What taking a group adds to the distances of all classes from their quotas."""
        total = 0.0
        for c, n in self.counted[g]:
            missing = self.quota[c] - self.held[c]
            total += (abs(missing - n) - abs(missing)) / self.size[c]
        return total

    def leaves_every_class(self, g: int) -> bool:
        """Whether a group can be taken: it is not yet, and each class keeps an image."""
        return g not in self.taken and all(self.left[c] > n for c, n in self.there[g])

    def take(self, g: int) -> None:
        """Holds a group out."""
        self.taken.add(g)
        for c, n in self.there[g]:
            self.left[c] -= n
        for c, n in self.counted[g]:
            self.held[c] += n


def _contents(group: NDArray[np.int64], labels: Tensor, num_classes: int) -> _Contents:
    """How many images of which classes each group has; negative labels do not count."""
    found: _Contents = [[] for _ in range(int(group.max(initial=-1)) + 1)]
    known = labels.numpy() >= 0
    codes = group[known] * num_classes + labels.numpy()[known]
    pairs, counts = np.unique(codes, return_counts=True)
    for code, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        found[code // num_classes].append((code % num_classes, count))
    return found


def _totals(contents: _Contents, num_classes: int) -> list[int]:
    totals = [0] * num_classes
    for group in contents:
        for c, n in group:
            totals[c] += n
    return totals
