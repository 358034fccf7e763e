"""k-nearest-neighbour classification on frozen features: how neighbours vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.search import Neighbours, find_neighbours

Vote = Literal["weighted", "plain", "balanced"]

_VOTE_CELLS = 1 << 24  # votes, queries times classes, that are held at once


@dataclass(frozen=True)
class KNNOptions:
    """How neighbours are counted.

    Attributes:
        k: number of neighbours.
        temperature: a neighbour at cosine similarity s votes with exp(s / temperature).
        vote: "weighted" by that; "plain": one vote each; "balanced": the weight divided by the
            number of bank rows of the neighbour's class.
    """

    k: int = 20
    temperature: float = 0.07
    vote: Vote = "weighted"

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ConfigError: a value no neighbourhood can have.
        """
        if self.k < 1:
            raise ConfigError(f"--knn-k: {self.k}, but at least 1 neighbour is needed")
        if not self.temperature > 0:
            raise ConfigError(f"--knn-temperature: {self.temperature}, but it must be above 0")


def knn_predict(
    bank: Features, queries: Features, *, num_classes: int, options: KNNOptions | None = None
) -> Tensor:
    """Class of each query by the vote of its k most similar bank rows, searched exactly.

    Args:
        bank: the long-tailed training set.
        queries: the test set.
        num_classes: C.
        options: defaults to k = 20, temperature = 0.07, weighted votes.

    Returns:
        (Q,) int64 predictions.

    Raises:
        ConfigError, DataError: as `find_neighbours` says.
    """
    options = options or KNNOptions()
    neighbours = find_neighbours(bank, queries, k=options.k, num_classes=num_classes)
    return vote_with_shares(neighbours, options=options)[0]


def vote_with_shares(neighbours: Neighbours, *, options: KNNOptions) -> tuple[Tensor, Tensor]:
    """Class of each query by its first `options.k` neighbours i with labels y_i.

    With w_i = exp(cos(q, x_i) / temperature) and n_c bank rows of class c, the score of c is

    - weighted: sum of w_i over y_i = c (Wu et al. 2018, arXiv:1805.01978, section 3.4);
    - plain: the number of neighbours with y_i = c; equal numbers go to the larger sum of w_i, not
      to the smaller class, which on a long-tailed bank is often the more frequent one;
    - balanced: sum of w_i / n_c over y_i = c, the weighted vote under a uniform class prior.

    Equal scores go to the smaller class.

    Args:
        neighbours: at least k a query.
        options: k, temperature and kind of vote.

    Returns:
        (Q,) int64 predictions, and (Q,) float32 shares of all scores that they won with.
    """
    k = options.k
    assert k <= neighbours.labels.shape[1], "more votes than neighbours"
    counts = neighbours.counts_per_class
    predictions, shares = [np.empty(0, np.int64)], [np.empty(0)]
    at_once = min(2048, max(1, _VOTE_CELLS // len(counts)))
    for start in range(0, len(neighbours.labels), at_once):
        labels = neighbours.labels[start : start + at_once, :k]
        similarity = neighbours.similarity[start : start + at_once, :k].astype(np.float64)
        # Relative to the nearest, or a small temperature overflows; the ranking is the same.
        nearest = similarity.max(axis=1, keepdims=True)
        weights = np.exp((similarity - nearest) / options.temperature)
        if options.vote == "balanced":
            weights /= counts[labels]
        elif options.vote == "plain":
            # What is added to the votes is less than one altogether: it only parts equal numbers.
            weights = 1 + weights / (2 * weights.sum(axis=1, keepdims=True))
        won, share = _winners(labels, weights, len(counts))
        predictions.append(won)
        shares.append(share)
    won_with = np.concatenate(shares).astype(np.float32)
    return torch.from_numpy(np.concatenate(predictions)), torch.from_numpy(won_with)


def _winners(
    labels: NDArray[np.int64], weights: NDArray[np.float64], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(Q,) class with the largest sum of weights, and its share; labels and weights are (Q, k)."""
    num_queries = labels.shape[0]
    cells = np.arange(num_queries)[:, None] * num_classes + labels
    votes = np.bincount(cells.ravel(), weights.ravel(), minlength=num_queries * num_classes)
    votes = votes.reshape(num_queries, num_classes)
    return votes.argmax(axis=1), votes.max(axis=1) / weights.sum(axis=1)
