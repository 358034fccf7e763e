"""Features laid out in the plane, so that one can look at them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_DIMENSIONS = 50  # what t-SNE is fed with: enough to keep neighbours, and fast
FEWEST_ROWS = 10


def feature_map(
    features: NDArray[np.float32], *, seed: int, perplexity: float = 30.0
) -> NDArray[np.float32]:
    """T-SNE (van der Maaten and Hinton, 2008) of rows of norm 1, after PCA to 50 dimensions.

    At norm 1, the Euclidean neighbours are those by cosine similarity, which kNN goes by. The
    layout starts from the two leading components, so it is the same for the same rows.

    Args:
        features: (N, D), N at least `FEWEST_ROWS`, finite.
        seed: of PCA's and t-SNE's random numbers.
        perplexity: about as many neighbours count; at most (N - 1) / 3.

    Returns:
        (N, 2) in [0, 1], both axes on one scale; features that are all the same lie in the middle.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, np.finfo(np.float32).tiny)
    if np.ptp(unit, axis=0).max() < 1e-6:  # collapsed: what is left is rounding
        return np.full((len(features), 2), 0.5, dtype=np.float32)
    dimensions = min(_MAX_DIMENSIONS, *unit.shape)
    reduced = PCA(dimensions, random_state=seed).fit_transform(unit)
    start = np.zeros((len(reduced), 2), dtype=np.float32)
    start[:, : min(2, dimensions)] = 1e-4 * reduced[:, :2] / reduced[:, 0].std()
    places = TSNE(
        perplexity=min(perplexity, (len(reduced) - 1) / 3), init=start, random_state=seed
    ).fit_transform(reduced)
    lowest, span = places.min(axis=0), np.ptp(places, axis=0)
    # The shorter side is centred.
    scaled: NDArray[np.float32] = (places - lowest - span / 2) / span.max() + 0.5
    return scaled
