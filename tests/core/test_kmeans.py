from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.kmeans import cluster_means, kmeans


def blobs(num_blobs=7, each=40, dim=5, spread=0.35, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_blobs, dim, generator=g, dtype=torch.float64) * 2
    labels = torch.arange(num_blobs).repeat(each)
    noise = torch.randn(len(labels), dim, generator=g, dtype=torch.float64)
    return centres[labels] + spread * noise, labels


def inertia(points, assignment, centres):
    return float((points - centres[assignment]).square().sum())


def run(points, k, *, seed=0, iterations=50, metric="euclidean"):
    return kmeans(points, k, seed=seed, iterations=iterations, metric=metric)


@pytest.mark.parametrize("spread", [0.35, 1.5])
def test_as_good_as_scikit_learn(spread):
    points, _ = blobs(spread=spread)
    want = KMeans(7, n_init=10, random_state=0).fit(points.numpy()).inertia_
    found = [inertia(points, *run(points, 7, seed=seed)) for seed in range(5)]
    assert min(found) <= want * 1.01
    assert max(found) <= want * 1.25


def test_finds_blobs():
    points, labels = blobs(spread=0.05)
    assignment, _ = run(points, 7)
    together = assignment[:, None] == assignment
    assert torch.equal(together, labels[:, None] == labels)


def test_ends_where_nothing_moves():
    points, _ = blobs(spread=1.5)
    assignment, centres = run(points, 7)
    # Lloyd's two conditions: every point is with its nearest centre, every centre is a mean.
    for point, own in zip(points, assignment.tolist(), strict=True):
        distances = [float((point - centre).norm()) for centre in centres]
        assert distances[own] == min(distances)
    for number, centre in enumerate(centres):
        torch.testing.assert_close(points[assignment == number].mean(dim=0), centre)


def test_cosine_sees_directions_only():
    points, _ = blobs(spread=1.0)
    lengths = torch.linspace(0.1, 9, len(points), dtype=points.dtype)[:, None]
    assignment, centres = run(points, 5, metric="cosine")
    again, same_centres = run(points * lengths, 5, metric="cosine")
    assert torch.equal(again, assignment)
    torch.testing.assert_close(same_centres, centres)
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(5, dtype=points.dtype))
    assert torch.equal((F.normalize(points, dim=1) @ centres.T).argmax(dim=1), assignment)


def test_a_function_of_the_seed():
    points, _ = blobs(spread=2.0)
    first = run(points, 9, seed=4)
    torch.rand(3)
    again = run(points, 9, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    others = [run(points, 9, seed=seed)[0] for seed in range(5, 9)]
    assert any(not torch.equal(first[0], other) for other in others)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    "points",
    [
        torch.zeros(6, 3),
        torch.ones(6, 3),
        torch.tensor([[1.0, 2]]).repeat(6, 1).index_fill(0, torch.tensor([5]), -1.0),
        torch.eye(6),
    ],
    ids=["zeros", "equal", "two places", "all apart"],
)
@pytest.mark.parametrize("k", [1, 3, 6])
def test_no_cluster_is_empty(points, k, metric):
    assignment, centres = run(points, k, metric=metric)
    assert torch.bincount(assignment, minlength=k).min() > 0
    assert assignment.shape == (6,)
    assert centres.shape == (k, points.shape[1])
    assert centres.isfinite().all()


def test_an_empty_cluster_takes_the_farthest_point():
    from ssl_lt.core.kmeans import _without_empty

    points = torch.tensor([[0.0], [1.0], [5.0], [20.0]])
    assignment = torch.tensor([0, 0, 0, 3])
    # Mean 2 of the first cluster: 5 is farthest, then 0 and 1 are alike far and the first goes;
    # 20 is alone and stays.
    assert _without_empty(points, assignment, 4).tolist() == [2, 0, 1, 3]
    assert _without_empty(points[:3], torch.tensor([1, 0, 1]), 2).tolist() == [1, 0, 1]


def test_means_of_clusters():
    points = torch.tensor([[1.0, 2], [3, 4], [8, 0]])
    got = cluster_means(points, torch.tensor([2, 2, 0]), 4)
    assert got.tolist() == [[8, 0], [0, 0], [2, 3], [0, 0]]


@pytest.mark.parametrize("k", [0, 4])
def test_fewer_points_than_clusters(k):
    with pytest.raises(ConfigError, match=f"k: {k} clusters of 3 points"):
        run(torch.randn(3, 2), k)


def test_no_iteration():
    with pytest.raises(ConfigError, match="iterations: 0"):
        run(torch.randn(3, 2), 2, iterations=0)


def test_narrow_blobs_far_from_the_origin():
    points, labels = blobs(spread=0.05)
    assignment, _ = run((1000 + 0.01 * points).float(), 7)
    together = assignment[:, None] == assignment
    assert torch.equal(together, labels[:, None] == labels)
