"""K-means, repeatable for a seed, and means of clusters."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError, NumericError

_STARTS = 3  # one alone ends far from the best clusters about one time in five


def kmeans(points: Tensor, k: int, *, seed: int, iterations: int) -> Tensor:
    """Scikit-learn's k-means: Lloyd's iterations from greedy k-means++, the best of three starts.

    It runs on one thread of the CPU: several would add up in no fixed order, and equal points and
    seeds must give equal clusters. Points on the unit sphere are thereby clustered by cosine.

    Args:
        points: (N, D).
        k: clusters, 1 ... N.
        seed: of the starts.
        iterations: at most so many; it stops where no point moves.

    Returns:
        (N,) int64 cluster of each point, on the points' device. A cluster is empty only where
        there are fewer than k different points.

    Raises:
        ConfigError: fewer points than clusters, or no cluster at all.
        NumericError: a point is not finite.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if not 1 <= k <= len(points):
        raise ConfigError(f"k: {k} clusters of {len(points)} points, must be 1 ... {len(points)}")
    if not bool(points.isfinite().all()):
        raise NumericError("k-means: a feature is not finite")
    fit = KMeans(k, n_init=_STARTS, max_iter=iterations, tol=0.0, random_state=seed % (1 << 32))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer than k different points
        clusters = fit.fit_predict(points.detach().cpu().numpy())
    return torch.from_numpy(clusters).to(points.device, torch.int64)


def cluster_means(points: Tensor, assignment: Tensor, k: int) -> Tensor:
    """(k, D) means of the clusters of (N, D) points; zeros for a cluster without points."""
    sizes = torch.bincount(assignment, minlength=k)
    # Cluster by cluster, because adding by index is in no fixed order on a GPU.
    in_order = points[assignment.argsort(stable=True)].contiguous()
    sums = torch.segment_reduce(in_order, "sum", lengths=sizes, axis=0)
    return sums / sizes.clamp(min=1)[:, None]
