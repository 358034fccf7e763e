"""Choosing a strength on training images that were held out for it, never on the test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def balanced_accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    """Scalar float64: mean over the classes present of the share of their images that is right."""
    seen = torch.bincount(labels)
    right = torch.bincount(labels[predictions == labels], minlength=len(seen))
    present = seen > 0
    return (right[present].double() / seen[present]).mean()


def best_strength(
    strengths: Sequence[float], predict: Callable[[float], Tensor], labels: Tensor
) -> float:
    """The strength with the best balanced accuracy; of several equally good, the middle one.

    A network that knows its training images by heart is right for a whole range of strengths; the
    middle is as far as one gets from where it begins to err.

    Args:
        strengths: at least one; ascending.
        predict: strength -> (N,) int64 classes of the held-out images.
        labels: (N,) int64 of the held-out images, at least one.
    """
    scores = torch.stack([balanced_accuracy(predict(s), labels) for s in strengths])
    best = torch.nonzero(scores == scores.max()).flatten()
    return strengths[int(best[(len(best) - 1) // 2])]
