"""Class weights that follow from a power of the class prior."""

from __future__ import annotations

from torch import Tensor

from ssl_lt.losses.class_counts import positive_counts


def inverse_frequency_weights(counts_per_class: Tensor, *, power: float) -> Tensor:
    """Class weights `w_j = C pi_j^-nu / sum_k pi_k^-nu`.

    `nu = 1` is inverse class frequency; a smaller one, from late in training on, is ADRW
    (arXiv:2310.04752).

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        power: `nu`; 0 gives 1 for every class.

    Returns:
        (C,) floating, sums to C: that of the counts, float32 for integers.

    Raises:
        ConfigError: a class without images.
    """
    counts = positive_counts(counts_per_class)
    # Over the largest count: the weights do not see the scale, and nothing overflows.
    inverse = (counts / counts.max()) ** -power
    return len(inverse) * inverse / inverse.sum()
