from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError, NumericError
from ssl_lt.core.kmeans import cluster_means, kmeans


def blobs(num_blobs=7, each=40, dim=5, spread=0.35, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_blobs, dim, generator=g, dtype=torch.float64) * 2
    labels = torch.arange(num_blobs).repeat(each)
    noise = torch.randn(len(labels), dim, generator=g, dtype=torch.float64)
    return centres[labels] + spread * noise, labels


def inertia(points, assignment):
    centres = cluster_means(points, assignment, int(assignment.max()) + 1)
    return float((points - centres[assignment]).square().sum())


def run(points, k, *, seed=0, iterations=50):
    return kmeans(points, k, seed=seed, iterations=iterations)


@pytest.mark.parametrize("spread", [0.35, 1.5])
def test_about_as_good_as_the_best_of_many_starts(spread):
    points, _ = blobs(spread=spread)
    want = KMeans(7, n_init=50, random_state=0).fit(points.numpy()).inertia_
    found = [inertia(points, run(points, 7, seed=seed)) for seed in range(5)]
    assert min(found) <= want * 1.01
    assert max(found) <= want * 1.05


def test_finds_blobs():
    points, labels = blobs(spread=0.05)
    assignment = run(points, 7)
    together = assignment[:, None] == assignment
    assert torch.equal(together, labels[:, None] == labels)


def test_ends_where_nothing_moves():
    points, _ = blobs(spread=1.5)
    assignment = run(points, 7)
    centres = cluster_means(points, assignment, 7)
    for point, own in zip(points, assignment.tolist(), strict=True):
        distances = [float((point - centre).norm()) for centre in centres]
        assert distances[own] == min(distances)


def test_on_the_sphere_it_clusters_by_direction():
    points = F.normalize(blobs(spread=1.0)[0], dim=1)

    def cosines(assignment):
        centres = F.normalize(cluster_means(points, assignment, 5), dim=1)
        return float((points * centres[assignment]).sum(dim=1).mean())

    best = KMeans(5, n_init=50, random_state=0).fit(points.numpy()).labels_
    found = [cosines(run(points, 5, seed=seed)) for seed in range(5)]
    assert max(found) >= 0.99 * cosines(torch.from_numpy(best).long())
    assert min(found) >= 0.98 * cosines(torch.from_numpy(best).long())


def test_a_function_of_the_seed():
    points, _ = blobs(spread=2.0)
    first = run(points, 9, seed=4)
    torch.rand(3)
    again = run(points, 9, seed=4)
    assert torch.equal(first, again)
    others = [run(points, 9, seed=seed) for seed in range(5, 9)]
    assert any(not torch.equal(first, other) for other in others)


def test_points_that_are_the_same_share_a_cluster():
    points = torch.tensor([[1.0, 2]]).repeat(6, 1).index_fill(0, torch.tensor([5]), -1.0)
    assert run(torch.ones(6, 3), 3).tolist() == [0] * 6
    assignment = run(points, 3)
    assert len(assignment[:5].unique()) == 1
    assert assignment[5] != assignment[0]
    assert sorted(run(torch.eye(6), 6).tolist()) == [*range(6)]


def test_what_cannot_be_clustered_is_named():
    with pytest.raises(NumericError, match="k-means: a feature is not finite"):
        run(torch.tensor([[1.0], [torch.nan]]), 1)


def test_means_of_clusters():
    points = torch.tensor([[1.0, 2], [3, 4], [8, 0]])
    got = cluster_means(points, torch.tensor([2, 2, 0]), 4)
    assert got.tolist() == [[8, 0], [0, 0], [2, 3], [0, 0]]


@pytest.mark.parametrize("k", [0, 4])
def test_fewer_points_than_clusters(k):
    with pytest.raises(ConfigError, match=f"k: {k} clusters of 3 points"):
        run(torch.randn(3, 2), k)


def test_narrow_blobs_far_from_the_origin():
    points, labels = blobs(spread=0.05)
    assignment = run((1000 + 0.01 * points).float(), 7)
    together = assignment[:, None] == assignment
    assert torch.equal(together, labels[:, None] == labels)
