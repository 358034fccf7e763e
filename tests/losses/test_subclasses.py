from __future__ import annotations

import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.kmeans import kmeans
from ssl_lt.core.random import seed_of
from ssl_lt.losses.subclasses import cluster_classes, parents_of, sub_class_counts

CIFAR10 = [int(5000 * 100 ** (-i / 9)) for i in range(10)]
CIFAR100 = [int(500 * 100 ** (-i / 99)) for i in range(100)]
PLAN = {"seed": 3, "iterations": 20}


@pytest.mark.parametrize(("name", "counts"), [("10", CIFAR10), ("100", CIFAR100)])
def test_numbers_of_the_released_code(golden, name, counts):
    want = golden("supervised/sbcl.npz")[f"cluster_number{name}"]
    assert sub_class_counts(torch.tensor(counts)).tolist() == want.tolist()


def test_small_classes_stay_whole():
    counts = torch.tensor([100, 40, 39, 5, 0])
    assert sub_class_counts(counts).tolist() == [10, 4, 3, 1, 1]
    assert sub_class_counts(counts, smallest=20).tolist() == [5, 2, 1, 1, 1]
    assert sub_class_counts(torch.tensor([90, 60, 30])).tolist() == [3, 2, 1]
    assert sub_class_counts(torch.full((4,), 7)).tolist() == [1] * 4
    with pytest.raises(ConfigError, match="smallest: 0"):
        sub_class_counts(counts, smallest=0)


def data():
    g = torch.Generator().manual_seed(0)
    labels = torch.tensor([1] * 9 + [0] * 12 + [3] * 2)[torch.randperm(23, generator=g)]
    return torch.randn(23, 4, generator=g), labels


def test_each_class_is_clustered_by_itself():
    features, labels = data()
    counts = torch.tensor([3, 2, 1, 1])
    found = cluster_classes(features, labels, counts, **PLAN)
    assert found.parents.tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert torch.equal(found.parents[found.labels], labels)
    assert torch.equal(parents_of(counts), found.parents)
    for number, offset, k in ((0, 0, 3), (1, 3, 2), (3, 6, 1)):
        own = labels == number
        want = kmeans(features[own], k, **{**PLAN, "seed": seed_of(3, number)})
        assert torch.equal(found.labels[own], want + offset)


def test_other_classes_do_not_matter():
    features, labels = data()
    counts = torch.tensor([3, 2, 1, 1])
    found = cluster_classes(features, labels, counts, **PLAN)
    moved = torch.where((labels == 1)[:, None], features, features.flip(0))
    again = cluster_classes(moved, labels, counts, **PLAN)
    assert torch.equal(found.labels[labels == 1], again.labels[labels == 1])


def test_more_sub_classes_than_samples():
    features, labels = data()
    with pytest.raises(ConfigError, match="k: 3 clusters of 2 points"):
        cluster_classes(features, labels, torch.tensor([1, 1, 1, 3]), **PLAN)
