"""Seeded draws of training rows, class by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.core.random import sample_keys
from ssl_lt.evaluate.features import Features


def places_in_class(labels: Tensor, index: Tensor, *, seed: int, draw: int = 0) -> Tensor:
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


def balanced_draw(
    train: Features, *, shots: int, draw: int, class_names: Sequence[str], seed: int = 0
) -> Features:
    """`shots` images of each class; fewer shots of the same draw are a subset of more.

    Args:
        train: to draw from; every label known.
        shots: images of each class.
        draw: number of the draw.
        class_names: (C,) for the error.
        seed: of the draws.

    Raises:
        DataError: a class has fewer images than shots.
    """
    check_shots(train.labels, shots=shots, class_names=class_names)
    rows = places_in_class(train.labels, train.index, seed=seed, draw=draw) < shots
    return train.take(rows)


def check_shots(labels: Tensor, *, shots: int, class_names: Sequence[str]) -> None:
    """Every class has so many images.

    Raises:
        DataError: one has fewer; names the one with the fewest.
    """
    counts = labels.bincount(minlength=len(class_names))
    smallest = int(counts.argmin())
    if int(counts[smallest]) < shots:
        raise DataError(
            f"--shots: {shots} images of each class are asked for, "
            f"but class {class_names[smallest]} has {int(counts[smallest])}"
        )
