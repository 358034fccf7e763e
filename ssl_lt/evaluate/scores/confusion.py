"""What a classifier takes test images for: only the pairs of classes that occur are kept.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssl_lt.core.errors import DataError


@dataclass(frozen=True)
class Confusion:
    """Test images by true and predicted class, ascending; three lists of equal length.

    Of C classes and N test images it has at most N entries, where a matrix has C x C.

    Attributes:
        true: class of the images.
        predicted: what they are taken for.
        images: how many; never 0.
    """

    true: tuple[int, ...]
    predicted: tuple[int, ...]
    images: tuple[int, ...]

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The three lists, for arithmetic."""
        true, predicted, images = (
            np.asarray(column, dtype=np.int64)
            for column in (self.true, self.predicted, self.images)
        )
        return true, predicted, images

    def hits(self, *, num_classes: int) -> NDArray[np.int64]:
        """(C,) right images of each class."""
        true, predicted, images = self.arrays()
        right = true == predicted
        found = np.zeros(num_classes, dtype=np.int64)
        found[true[right]] = images[right]
        return found


def check_predictions(
    predictions: ArrayLike, labels: ArrayLike, *, num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as int64: labels may come as int16, where label * C wraps.

    Raises:
        DataError: other shapes, no rows, or a number outside the classes.
    """
    predicted, true = np.asarray(predictions), np.asarray(labels)
    if predicted.shape != true.shape or true.ndim != 1 or true.size == 0:
        raise DataError(
            f"predictions {predicted.shape} and labels {true.shape}: one of each a test image, "
            "and at least one, are needed"
        )
    for name, values in (("labels", true), ("predictions", predicted)):
        if not np.issubdtype(values.dtype, np.integer):
            raise DataError(f"{name}: {values.dtype} instead of integers")
        if values.min() < 0 or values.max() >= num_classes:
            raise DataError(
                f"{name}: {values.min()} ... {values.max()} do not fit {num_classes} classes"
            )
    return predicted.astype(np.int64), true.astype(np.int64)


def count_confusion(predictions: ArrayLike, labels: ArrayLike, *, num_classes: int) -> Confusion:
    """The pairs of classes that occur.

    Args:
        predictions: (N,) integers in [0, num_classes).
        labels: (N,) integers in [0, num_classes).
        num_classes: C.

    Raises:
        DataError: as `check_predictions` says.
    """
    predicted, true = check_predictions(predictions, labels, num_classes=num_classes)
    cells, images = np.unique(true * num_classes + predicted, return_counts=True)
    rows, columns = np.divmod(cells, num_classes)
    return Confusion(*(tuple(column.tolist()) for column in (rows, columns, images)))


def from_matrix(rows: Sequence[Sequence[int]]) -> Confusion:
    """Of a (C, C) matrix, true class by predicted class."""
    matrix = np.asarray(rows, dtype=np.int64)
    true, predicted = np.nonzero(matrix)
    columns = (true, predicted, matrix[true, predicted])
    return Confusion(*(tuple(column.tolist()) for column in columns))
