"""K-means on whole tensors, repeatable for a seed."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import draw_id, seed_of, uniform

Metric = Literal["euclidean", "cosine"]
_START = draw_id("k-means start")


def kmeans(
    points: Tensor, k: int, *, seed: int, iterations: int, metric: Metric
) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations from a greedy k-means++ start.

    With "cosine" the points are put on the unit sphere first and so are the centres (spherical
    k-means). No cluster is ever empty: one that is takes the point farthest from its own centre.
    Equal points, seed and device give equal clusters. Memory is (N, k).

    Args:
        points: (N, D), any norm.
        k: clusters, 1 ... N.
        seed: of the start.
        iterations: at most so many; it stops where no point moves.
        metric: what is near.

    Returns:
        (N,) int64 cluster of each point, and (k, D) centres, which are the means of these clusters
        (with "cosine", of unit length).

    Raises:
        ConfigError: fewer points than clusters, or no cluster or iteration at all.
    """
    if not 1 <= k <= len(points):
        raise ConfigError(f"k: {k} clusters of {len(points)} points, must be 1 ... {len(points)}")
    if iterations < 1:
        raise ConfigError(f"iterations: {iterations}, must be at least 1")
    if metric == "cosine":
        points = F.normalize(points, dim=1)
    centres = _plus_plus(points, k, seed=seed)
    assignment = torch.full_like(points[:, 0], -1, dtype=torch.int64)
    for _ in range(iterations):
        nearest = _without_empty(points, _square_distances(points, centres).argmin(dim=1), k)
        if torch.equal(nearest, assignment):
            break
        assignment = nearest
        centres = cluster_means(points, assignment, k)
        if metric == "cosine":
            centres = F.normalize(centres, dim=1)
    return assignment, centres


def cluster_means(points: Tensor, assignment: Tensor, k: int) -> Tensor:
    """(k, D) means of the clusters of (N, D) points; zeros for a cluster without points."""
    sizes = torch.bincount(assignment, minlength=k)
    # Cluster by cluster, because adding by index is in no fixed order on a GPU.
    in_order = points[assignment.argsort(stable=True)].contiguous()
    sums = torch.segment_reduce(in_order, "sum", lengths=sizes, axis=0)
    return sums / sizes.clamp(min=1)[:, None]


def _square_distances(points: Tensor, centres: Tensor) -> Tensor:
    """(N, k) squared Euclidean distances."""
    # Not as a matrix product, in which points of a narrow class would all be alike.
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points, centres, compute_mode=exact).square()


def _plus_plus(points: Tensor, k: int, *, seed: int) -> Tensor:
    """(k, D) points far from each other, each the best of some drawn by squared distance.

    "k-means++: The Advantages of Careful Seeding" (Arthur and Vassilvitskii 2007), with the greedy
    choice among 2 + log k candidates it suggests.
    """
    num_points, trials = len(points), 2 + int(math.log(k))
    keys = torch.tensor([seed_of(seed, number) for number in range(k)], device=points.device)
    draws = uniform(keys, _START, trials).to(torch.float64)
    chosen = [(draws[0, :1] * num_points).to(torch.int64)]
    nearest = _square_distances(points, points[chosen[0]])
    for number in range(1, k):
        # Cumulative shares: equal weights where every point coincides with a centre.
        shares = nearest[:, 0].to(torch.float64)
        ends = torch.where(shares.sum() > 0, shares, 1.0).cumsum(dim=0)
        candidates = torch.searchsorted(ends, draws[number] * ends[-1], right=True)
        candidates = candidates.clamp(max=num_points - 1)
        left = torch.minimum(nearest, _square_distances(points, points[candidates]))
        best = left.sum(dim=0).argmin(dim=0, keepdim=True)
        chosen.append(candidates[best])
        nearest = left[:, best]
    return points[torch.cat(chosen)]


def _without_empty(points: Tensor, assignment: Tensor, k: int) -> Tensor:
    """The assignment, in which each empty cluster got the farthest point of a larger one."""
    sizes = torch.bincount(assignment, minlength=k)
    for empty in torch.nonzero(sizes == 0).flatten():
        centres = cluster_means(points, assignment, k)
        distances = (points - centres[assignment]).square().sum(dim=1)
        # There are at least as many points as clusters, so one has two of them.
        farthest = distances.masked_fill(sizes[assignment] < 2, -1.0).argmax()
        assignment = assignment.clone()
        assignment[farthest] = empty
        sizes = torch.bincount(assignment, minlength=k)
    return assignment
