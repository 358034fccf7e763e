"""Predictions on the test split, as the numbers that a report shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssl_lt.data.dataset import Data
from ssl_lt.evaluate.scores.accuracy import accuracy_from_confusion, confusion_matrix
from ssl_lt.evaluate.scores.calibration import calibration
from ssl_lt.evaluate.scores.correct_mask import pack_correct
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.intervals import bootstrap


def evaluate_predictions(
    name: str,
    predictions: NDArray[np.int64],
    labels: NDArray[np.int64],
    data: Data,
    *,
    note: str = "",
    confidence: NDArray[np.float32] | None = None,
) -> Evaluation:
    """Predictions on the test split as a named evaluation.

    Args:
        name: of the classifier.
        predictions: (N,) classes, in the order of the test split.
        labels: (N,) true classes.
        data: with the groups and the test split.
        note: settings worth a line.
        confidence: (N,) probability of the predicted class; None of a classifier that has none.
    """
    confusion = confusion_matrix(predictions, labels, num_classes=data.num_classes)
    hits, num_test = confusion.diagonal(), confusion.sum(axis=1)
    right = predictions == labels
    rows: Sequence[Sequence[int]] = confusion.tolist()
    return Evaluation(
        name=name,
        accuracy=accuracy_from_confusion(confusion, groups=data.groups),
        note=note,
        confusion=tuple(tuple(row) for row in rows),
        intervals=bootstrap(hits, num_test, groups=data.groups),
        calibration=None
        if confidence is None
        else calibration(confidence, right, labels, groups=data.groups),
        answers=pack_correct(right, labels, test_sha256=data.test_sha256),
    )
