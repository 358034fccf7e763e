"""How far the centres of the classes are from each other.

NumPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUM_NEIGHBOURS = 5
_CENTRE_PAIRS = 1 << 22  # whose distances are held at once


def centre_distances(
    centres: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each class centre is from the others.

    With D(i, j) = ||c_i - c_j|| of unit centres c_i, the between-class uniformity is

        U = 1 / (C (C - 1)) * sum_i sum_{j != i} D(i, j),

    and the neighbourhood uniformity U_k = 1 / (C k) * sum_i (the k smallest D(i, j), j != i). Low
    values say that classes share one corner of the sphere. After arXiv:2111.13998, and
    arXiv:2310.17622 for the long tail without labels; neither text was at hand to compare the
    formulas, and k is ours, so hold these numbers against each other, not against those papers'
    tables.

    Args:
        centres: (C, D) class means, scaled to norm 1.

    Returns:
        (C,) mean distance to all others and (C,) to the nearest `NUM_NEIGHBOURS`, what class i adds
        to U and to U_k; NaN of a single class.
    """
    num_classes = len(centres)
    if num_classes == 1:
        return np.full(1, np.nan), np.full(1, np.nan)
    k = min(NUM_NEIGHBOURS, num_classes - 1)
    mean, near = np.empty(num_classes), np.empty(num_classes)
    at_once = max(1, _CENTRE_PAIRS // num_classes)
    for start in range(0, num_classes, at_once):
        rows = slice(start, start + at_once)
        distances = np.sqrt(np.clip(2 - 2 * centres[rows] @ centres.T, 0, None))
        own = np.arange(len(distances))
        distances[own, start + own] = 0.0
        mean[rows] = distances.sum(axis=1) / (num_classes - 1)
        distances[own, start + own] = np.inf
        near[rows] = np.partition(distances, k - 1, axis=1)[:, :k].mean(axis=1)
    return mean, near
