"""Scores of rarity, against loops over images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.tail.clusters import cluster_images
from ssl_lt.evaluate.tail.scores import (
    cluster_score,
    density_score,
    disagreement_score,
    neighbour_cosines,
    tailness_score,
)


def made(rows):
    rows = torch.as_tensor(np.asarray(rows), dtype=torch.float32)
    return Features(rows, torch.full((len(rows),), -1), torch.arange(len(rows)))


def drawn(seed, *, num=40, dimensions=6):
    return made(np.random.default_rng(seed).normal(size=(num, dimensions)) + 1)


def loop_cosines(features):
    """(N, N) of NumPy, in float64."""
    rows = features.features.double().numpy()
    unit = [row / np.sqrt((row**2).sum()) for row in rows]
    return np.array([[float((a * b).sum()) for b in unit] for a in unit])


def all_scores(features, k):
    cosines = neighbour_cosines(features, k=k)
    return density_score(cosines), tailness_score(features, cosines)


@pytest.mark.parametrize("k", [1, 7, 39, 1000])
def test_density_is_the_mean_distance_to_the_nearest_others(k):
    features = drawn(0)
    cosines = loop_cosines(features)
    expected = []
    for i in range(40):
        others = sorted((cosines[i, j] for j in range(40) if j != i), reverse=True)
        expected.append(np.mean([1 - c for c in others[:k]]))
    found = density_score(neighbour_cosines(features, k=k))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_tailness_is_the_share_of_the_ten_nearest():
    features = drawn(1)
    cosines = loop_cosines(features)
    expected = []
    for i in range(40):
        others = sorted((cosines[i, j] for j in range(40) if j != i), reverse=True)
        nearest = sum(np.exp(c / 0.2) for c in others[:10])
        expected.append(1 - nearest / sum(np.exp(cosines[i, j] / 0.2) for j in range(40)))
    found = tailness_score(features, neighbour_cosines(features, k=25))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_disagreement_is_the_distance_between_two_networks():
    dense, pruned = drawn(2), drawn(3)
    expected = []
    for a, b in zip(dense.features.numpy(), pruned.features.numpy(), strict=True):
        expected.append(1 - (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    np.testing.assert_allclose(disagreement_score(dense, pruned), expected, atol=1e-6)
    np.testing.assert_allclose(disagreement_score(dense, dense), 0, atol=1e-12)


def test_the_images_of_small_clusters_have_the_highest_cluster_score():
    features = drawn(4, num=300)
    clusters = cluster_images(features, num_clusters=100, seed=5)
    expected = [1 - sum(other == own for other in clusters) / 300 for own in clusters]
    np.testing.assert_allclose(cluster_score(features, seed=5), expected)


def test_clusters_are_of_similar_images():
    rng = np.random.default_rng(6)
    centres = np.eye(4)[[0, 1, 2]]
    rows = np.repeat(centres, [30, 20, 4], axis=0) + 0.05 * rng.normal(size=(54, 4))
    clusters = cluster_images(made(rows * rng.uniform(1, 9, (54, 1))), num_clusters=3, seed=0)
    assert len(set(clusters[:30])) == len(set(clusters[30:50])) == len(set(clusters[50:])) == 1
    assert len(set(clusters)) == 3


def test_rare_images_are_found():
    rng = np.random.default_rng(7)
    frequent = np.eye(8)[0] + 0.1 * rng.normal(size=(150, 8))
    rare = np.eye(8)[1:6] + 0.1 * rng.normal(size=(5, 8))
    features = made(np.concatenate([frequent, rare]))
    score = density_score(neighbour_cosines(features, k=20))
    assert score[150:].min() > score[:150].max()


def test_scores_go_with_the_images_and_know_no_length():
    features = drawn(8)
    order = torch.from_numpy(np.random.default_rng(0).permutation(40))
    longer = made(features.features * torch.linspace(0.1, 9, 40)[:, None])
    for own, other, scaled in zip(
        all_scores(features, 12),
        all_scores(features.take(order), 12),
        all_scores(longer, 12),
        strict=True,
    ):
        np.testing.assert_allclose(other, own[order.numpy()], atol=1e-6)
        np.testing.assert_allclose(scaled, own, atol=1e-6)


def test_copies_of_an_image_are_neighbours_of_each_other():
    features = made(np.repeat(np.eye(3), [4, 1, 1], axis=0))
    np.testing.assert_allclose(
        density_score(neighbour_cosines(features, k=3)), [0, 0, 0, 0, 1, 1], atol=1e-6
    )


def test_features_without_direction_and_a_single_image_are_refused():
    with pytest.raises(DataError, match="zero or not finite"):
        neighbour_cosines(made([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]]), k=1)
    with pytest.raises(DataError, match="1 training image"):
        neighbour_cosines(made([[1.0, 2.0]]), k=1)
