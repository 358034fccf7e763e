"""Which number of neighbours: chosen on training images, never on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.splits.hold_out import held_out_rows
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions, vote
from ssl_lt.evaluate.neighbours.search import Neighbours, find_neighbours
from ssl_lt.evaluate.scores.accuracy import accuracy

_HELD_OUT = 0.2  # of each class, as for the linear probe


@dataclass(frozen=True)
class KPoint:
    """One number of neighbours and the mean per-class accuracy of held-out training images."""

    k: int
    held_out_accuracy: float


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Neighbours of the images that choose k, in the rest of the training set, and their labels."""

    neighbours: Neighbours
    labels: Tensor


def hold_out_of_bank(bank: Features, *, k: int, num_classes: int) -> HeldOut:
    """Neighbours of a fifth of each class in the rest; classes of one image stay in the rest.

    Args:
        bank: the training set.
        k: the largest number of neighbours to be tried.
        num_classes: C.

    Raises:
        ConfigError: k is larger than what is left of the bank.
        DataError: no class has two images, or as `find_neighbours` says.
    """
    held = held_out_rows(bank.labels, bank.index, share=_HELD_OUT, seed=0)
    if not bool(held.any()):
        raise DataError("kNN bank: no class has two images, so none can choose --knn-k")
    rest, asked = bank.take(~held), bank.take(held)
    if k > len(rest):
        raise ConfigError(
            f"--knn-k: {k} neighbours to be tried, but {len(rest)} images are left of the bank "
            "beside those that choose"
        )
    return HeldOut(find_neighbours(rest, asked, k=k, num_classes=num_classes), asked.labels)


def ask_bank(bank: Features, validation: Features, *, k: int, num_classes: int) -> HeldOut:
    """Neighbours of validation images in the whole bank; errors as in `hold_out_of_bank`."""
    found = find_neighbours(bank, validation, k=k, num_classes=num_classes)
    return HeldOut(found, validation.labels)


def choose_k(
    held_out: HeldOut, ks: Sequence[int], *, options: KNNOptions
) -> tuple[KNNOptions, tuple[KPoint, ...]]:
    """The best k under a vote, the smaller of equally good ones, and how good each was.

    Args:
        held_out: searched with the largest of `ks`.
        ks: numbers to try.
        options: temperature and vote; its k plays no part.
    """
    num_classes = len(held_out.neighbours.counts_per_class)
    points = []
    for k in sorted(set(ks)):
        found = vote(held_out.neighbours, options=replace(options, k=k))
        score = accuracy(found, held_out.labels, num_classes=num_classes).balanced
        points.append(KPoint(k, score))
    best = max(points, key=lambda point: point.held_out_accuracy)
    return replace(options, k=best.k), tuple(points)
