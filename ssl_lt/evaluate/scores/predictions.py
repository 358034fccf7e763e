"""Predictions on the test split, as the numbers that a report shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssl_lt.data.dataset import Data
from ssl_lt.evaluate.scores.accuracy import accuracy_from_counts
from ssl_lt.evaluate.scores.calibration import calibration
from ssl_lt.evaluate.scores.confusion import count_confusion
from ssl_lt.evaluate.scores.correct_mask import pack_correct
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.group_intervals import group_bootstrap
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

    Intervals resample groups of images where these belong together.

    Args:
        name: of the classifier.
        predictions: (N,) classes, in the order of the test split.
        labels: (N,) true classes.
        data: with the groups and the test split.
        note: settings worth a line.
        confidence: (N,) probability of the predicted class; None of a classifier that has none.
    """
    num_classes, right = data.num_classes, predictions == labels
    confusion = count_confusion(predictions, labels, num_classes=num_classes)
    hits, num_test = (np.bincount(rows, minlength=num_classes) for rows in (labels[right], labels))
    tested = data.encoded_test
    # Of validation images, which are measured between epochs, nobody reads the intervals.
    if tested is None or tested.group_ids is None or len(tested) != len(labels):
        intervals = bootstrap(hits, num_test, groups=data.groups)
    else:
        ids = tested.group_ids.numpy()
        intervals = group_bootstrap(right, labels, ids, num_classes=num_classes, groups=data.groups)
    return Evaluation(
        name=name,
        accuracy=accuracy_from_counts(hits, num_test, groups=data.groups),
        note=note,
        confusion=confusion,
        intervals=intervals,
        calibration=None
        if confidence is None
        else calibration(confidence, right, labels, groups=data.groups),
        answers=pack_correct(right, labels, test_sha256=data.test_sha256),
    )
