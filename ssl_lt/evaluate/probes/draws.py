"""Seeded draws of training images, class by class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.data.splits.hold_out import rank_within_class
from ssl_lt.evaluate.features.features import Features


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
    rows = rank_within_class(train.labels, train.index, seed=seed, draw=draw) < shots
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
