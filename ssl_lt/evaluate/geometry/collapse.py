"""Has a representation collapsed? Measured while it is being learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_lt.core.errors import NumericError
from ssl_lt.evaluate.geometry.representation import (
    Rows,
    collapse_warnings,
    effective_rank,
    feature_std,
)

_MAX_ROWS = 2048  # as many tell both numbers to about a percent


@dataclass(frozen=True)
class Spread:
    """How far features spread; see `Measures`.

    Attributes:
        feature_std: 1 over the whole sphere, 0 where all are the same.
        effective_rank: 1 ... D; 1 also where all features are zero.
        warnings: a sentence for each sign of collapse.
    """

    feature_std: float
    effective_rank: float
    warnings: tuple[str, ...]


def measure_spread(features: Rows, *, num_classes: int) -> Spread:
    """Spread of at most `_MAX_ROWS` features, taken evenly; a feature of zeros has no direction.

    Args:
        features: (N, D), any norm.
        num_classes: that the features should tell apart; 0 where it is unknown.

    Raises:
        NumericError: a feature is not finite.
    """
    rows = features[:: -(-len(features) // _MAX_ROWS)].astype(np.float64)
    if not np.isfinite(rows).all():
        raise NumericError("the backbone's features are not finite, although its weights are")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    pointing = norms[:, 0] > 0
    x = rows[pointing] / norms[pointing]
    std, rank = (feature_std(x), effective_rank(x)) if len(x) else (0.0, 1.0)
    warnings = collapse_warnings(
        feature_std=std, effective_rank=rank, dim=rows.shape[1], num_classes=num_classes
    )
    if not pointing.all():
        share = 1 - pointing.mean()
        warnings = (f"Sign of collapse: the features of {share:.0%} of images are zero.", *warnings)
    return Spread(std, rank, warnings)
