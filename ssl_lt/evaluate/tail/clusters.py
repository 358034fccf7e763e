"""K-means on the unit sphere."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ssl_lt.evaluate.features.features import Features

_ITERATIONS = 20


def cluster_images(features: Features, *, num_clusters: int, seed: int) -> NDArray[np.int64]:
    """(N,) cluster of each image by spherical k-means; FAISS learns from 256 images a cluster.

    Args:
        features: of the images, none of them zero.
        num_clusters: at most N.
        seed: of the images that the centres start at.
    """
    import faiss  # takes a second to load

    faiss.omp_set_num_threads(torch.get_num_threads())
    unit = F.normalize(features.features.float(), dim=1).contiguous().numpy()
    kmeans = faiss.Kmeans(
        unit.shape[1],
        num_clusters,
        niter=_ITERATIONS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,  # or it warns of small clusters, which are what is looked for
    )
    kmeans.train(unit)
    clusters: NDArray[np.int64] = kmeans.assign(unit)[1]
    return clusters
