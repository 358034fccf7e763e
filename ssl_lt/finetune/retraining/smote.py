"""SMOTE in feature space: rare classes get synthetic features, frequent ones lose some."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.random import draw_id, integers, sample_keys, uniform

_FIRST, _NEIGHBOUR, _PLACE = (draw_id(f"smote {name}") for name in ("first", "neighbour", "place"))
_DISTANCE_ROWS = 4096  # whose distances to their class are held at once


def interpolated(features: Tensor, first: Tensor, second: Tensor, place: Tensor) -> Tensor:
    """`x_i + u (x_j - x_i)` (Chawla et al. 2002).

    Args:
        features: (N, D), `x`.
        first: (S,) int64 rows, `i`.
        second: (S,) int64 rows, `j`.
        place: (S,) in [0, 1), `u`.

    Returns:
        (S, D).
    """
    start = features[first]
    return start + place[:, None] * (features[second] - start)


def nearest_neighbours(points: Tensor, k: int) -> Tensor:
    """(N, k) int64 rows of the k nearest other points, by Euclidean distance; k < N."""
    found = []
    for start in range(0, len(points), _DISTANCE_ROWS):
        rows = torch.arange(start, min(start + _DISTANCE_ROWS, len(points)), device=points.device)
        distances = torch.cdist(
            points[rows], points, compute_mode="donot_use_mm_for_euclid_dist"
        ).scatter_(1, rows[:, None], torch.inf)
        found.append(distances.topk(k, largest=False).indices)
    return torch.cat(found)


def smote(
    features: Tensor, labels: Tensor, *, rows_per_class: int, k: int, seed: int
) -> tuple[Tensor, Tensor]:
    """A set in which every class has `rows_per_class` rows.

    Of a larger class some rows are drawn, without repetition; a smaller one keeps all of its own
    and gets synthetic ones, each between a row of it and one of that row's k nearest in the class
    (fewer where the class is smaller; a class of one row repeats it).

    Args:
        features: (N, D).
        labels: (N,) int64.
        rows_per_class: what every class gets, 1 or more.
        k: neighbours, 1 or more.
        seed: of the draws.

    Returns:
        (S, D) features and (S,) labels, ordered by class; classes without rows stay without.
    """
    made, classes = [], []
    order = torch.argsort(
        sample_keys(torch.arange(len(labels), device=labels.device), seed=seed, epoch=0, view=1)
    )
    for number in torch.unique(labels).tolist():
        members = order[labels[order] == number][:rows_per_class]
        made.append(features[members])
        missing = rows_per_class - len(members)
        if missing:
            made.append(_synthetic(features[members], missing, k=k, seed=seed, number=number))
        classes.append(labels.new_full((rows_per_class,), number))
    return torch.cat(made), torch.cat(classes)


def _synthetic(points: Tensor, count: int, *, k: int, seed: int, number: int) -> Tensor:
    """(count, D) new rows of one class."""
    k = min(k, len(points) - 1)
    if k == 0:
        return points.expand(count, -1)
    # The number of the class takes the place of the epoch: each class has draws of its own.
    keys = sample_keys(torch.arange(count, device=points.device), seed=seed, epoch=number, view=2)
    first = integers(keys, _FIRST, len(points))
    second = nearest_neighbours(points, k)[first, integers(keys, _NEIGHBOUR, k)]
    place = uniform(keys, _PLACE)[:, 0].to(points.dtype)
    return interpolated(points, first, second, place)
