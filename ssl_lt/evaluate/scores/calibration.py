"""How far a classifier's confidence is from how often it is right.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import ByGroup, Groups

_NUM_BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Of one classifier on one test set; errors are fractions.

    Attributes:
        error: expected calibration error over all test images.
        confidence: mean confidence; above the overall accuracy: over-confident.
        groups: the error over the images of each group, None where it has none; one entry a rule.
    """

    error: float
    confidence: float
    groups: tuple[ByGroup[float | None], ...]


def calibration(
    confidence: NDArray[np.float32] | NDArray[np.float64],
    right: NDArray[np.bool_],
    labels: NDArray[np.int64],
    *,
    groups: Sequence[Groups] = (),
    num_bins: int = _NUM_BINS,
) -> Calibration:
    """ECE = sum over bins of |bin| / N * |accuracy(bin) - confidence(bin)|.

    Bin m of M holds the confidences in ((m - 1) / M, m / M], and 0 falls into the first (Guo et al.
    2017, arXiv:1706.04599, eq. 3). A group's images are those whose true class is in it; every
    image counts alike, so it takes a balanced test split for every class to do so.

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) whether the prediction is right.
        labels: (N,) true classes.
        groups: rules that split the classes by their training counts.
        num_bins: M.

    Raises:
        DataError: other shapes, no rows, or a confidence outside [0, 1].
    """
    if not confidence.shape == right.shape == labels.shape or confidence.size == 0:
        raise DataError(
            f"calibration: confidence {confidence.shape}, right {right.shape} and labels "
            f"{labels.shape}: one of each a test image, and at least one, are needed"
        )
    # Rounding in single precision may leave a softmax a little above 1.
    if not ((confidence >= 0) & (confidence <= 1 + 1e-5)).all():
        raise DataError("calibration: a confidence is not between 0 and 1")
    exact = np.minimum(confidence.astype(np.float64), 1)

    def error_of(classes: tuple[int, ...]) -> float | None:
        mask = np.isin(labels, classes)
        return _error(exact[mask], right[mask], num_bins) if mask.any() else None

    return Calibration(
        error=_error(exact, right, num_bins),
        confidence=float(exact.mean()),
        groups=tuple(g.map(error_of) for g in groups),
    )


def _error(confidence: NDArray[np.float64], right: NDArray[np.bool_], num_bins: int) -> float:
    inner_edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    place = np.digitize(confidence, inner_edges, right=True)
    gaps = np.bincount(place, right - confidence)  # |bin| * (accuracy - confidence)
    return float(np.abs(gaps).sum() / confidence.size)
