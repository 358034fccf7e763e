"""Cross-entropy as class-balanced sampling would have it, from uniform batches."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_lt.losses.class_counts import positive_counts
from ssl_lt.losses.cross_entropy import cross_entropy


def importance_weighted_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor
) -> Tensor:
    """`w_y CE(f, y)` of each sample.

    With `importance_weights` its expectation over uniform samples is that of the plain
    cross-entropy over samples whose class is drawn first, each with probability 1/C.

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64.
        class_weights: (C,), `w`.

    Returns:
        (B,) losses.
    """
    return class_weights[labels] * cross_entropy(logits, labels)


def importance_weights(counts_per_class: Tensor) -> Tensor:
    """(C,) `w_j = N / (C n_j)`: class-balanced over uniform sampling probability of an image.

    Args:
        counts_per_class: (C,) training images `n_j` of each class, none of them 0; N in all.

    Raises:
        ConfigError: a class without images.
    """
    counts = positive_counts(counts_per_class)
    return counts.sum() / (len(counts) * counts)


class ImportanceWeightedCrossEntropy(nn.Module):
    """`importance_weighted_cross_entropy` with `importance_weights`, as a module.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.

    Raises:
        ConfigError: a class without images.
    """

    class_weights: Tensor

    def __init__(self, counts_per_class: Tensor) -> None:
        super().__init__()
        # Follow from the data, so they are not saved with the weights.
        weights = importance_weights(counts_per_class)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits."""
        return importance_weighted_cross_entropy(logits, labels, self.class_weights)
