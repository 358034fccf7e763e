"""Which number of neighbours: chosen on training images, never on the test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions, vote_with_shares
from ssl_lt.evaluate.neighbours.search import Neighbours, find_neighbours
from ssl_lt.evaluate.scores.accuracy import accuracy

_HELD_OUT = 0.2  # of each class, as for the linear probe


def hold_out_of_bank(bank: Features, *, k: int, num_classes: int) -> tuple[Neighbours, Tensor]:
    """Neighbours of a fifth of each class in the rest, and the labels of that fifth.

    Classes of one image stay in the rest.

    Args:
        bank: the training set.
        k: the largest number of neighbours to be tried.
        num_classes: C.

    Raises:
        ConfigError: k is larger than what is left of the bank.
        DataError: no class has two images, or as `find_neighbours` says.
    """
    held = bank.held_out(share=_HELD_OUT, seed=0)
    if not bool(held.any()):
        raise DataError("kNN bank: no class has two images, so none can choose --knn-k")
    rest, asked = bank.take(~held), bank.take(held)
    if k > len(rest):
        raise ConfigError(
            f"--knn-k: {k} neighbours to be tried, but {len(rest)} images are left of the bank "
            "beside those that choose"
        )
    return find_neighbours(rest, asked, k=k, num_classes=num_classes), asked.labels


def choose_k(
    neighbours: Neighbours, labels: Tensor, ks: Sequence[int], *, options: KNNOptions
) -> tuple[KNNOptions, dict[int, float]]:
    """The best k under a vote, the smaller of equally good ones, and how good each was.

    Args:
        neighbours: of the images that choose, searched with the largest of `ks`.
        labels: of these images.
        ks: numbers to try.
        options: temperature and vote; its k plays no part.

    Returns:
        The options with the best k, and each k's mean per-class accuracy.
    """
    num_classes = len(neighbours.counts_per_class)
    scores = {}
    for k in sorted(set(ks)):
        predictions, _ = vote_with_shares(neighbours, options=replace(options, k=k))
        scores[k] = accuracy(predictions, labels, num_classes=num_classes).balanced
    return replace(options, k=max(scores, key=scores.__getitem__)), scores
