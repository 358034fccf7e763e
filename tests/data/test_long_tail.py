from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.long_tail import (
    COUNTS,
    check_imbalance_factor,
    exponential_counts,
    groups_by_count,
    groups_by_thirds,
    long_tailed_counts,
    long_tailed_subset,
    make_long_tailed,
    pareto_counts,
    step_counts,
    subsample,
)


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("factor", [10, 20, 50, 100, 200])
def test_counts_are_the_released_ones(golden, num_classes, factor):
    numbers = golden("supervised/lt_data.npz")
    largest = 50_000 // num_classes
    exponential = exponential_counts(num_classes, largest=largest, imbalance_factor=factor)
    step = step_counts(num_classes, largest=largest, imbalance_factor=factor)
    assert exponential == numbers[f"cifar{num_classes}_exp_{factor}"].tolist()
    assert step == numbers[f"cifar{num_classes}_step_{factor}"].tolist()


def test_counts_of_the_class_shuffled_splits(golden):
    numbers = golden("pretraining/lt_splits.npz")
    for num_classes, largest in ((10, 4500), (100, 450)):
        counts = exponential_counts(num_classes, largest=largest, imbalance_factor=100)
        for split in range(1, 6):
            published = numbers[f"cifar{num_classes}_split{split}_counts"]
            assert sorted(published.tolist(), reverse=True) == counts


@pytest.mark.parametrize(
    ("num_classes", "factor", "total"), [(10, 100, 12406), (100, 100, 10847), (100, 10, 19573)]
)
def test_known_totals(num_classes, factor, total):
    largest = 50_000 // num_classes
    counts = exponential_counts(num_classes, largest=largest, imbalance_factor=factor)
    assert sum(counts) == total


@pytest.mark.parametrize("num_classes", [10, 100])
def test_subsample_is_the_released_choice(golden, num_classes):
    numbers = golden("supervised/lt_data.npz")
    labels = numbers[f"select{num_classes}_labels"].astype(np.int64)
    counts = numbers[f"cifar{num_classes}_exp_100"].tolist()
    rows = subsample(labels, counts, seed=0)
    np.testing.assert_array_equal(rows, numbers[f"select{num_classes}_indices"])
    np.testing.assert_array_equal(labels[rows], numbers[f"select{num_classes}_targets"])


def test_subsample_with_another_seed_takes_other_images():
    labels = np.repeat(np.arange(3), 50)
    first, second = (subsample(labels, [40, 20, 5], seed=seed) for seed in (0, 1))
    assert set(first) != set(second)
    np.testing.assert_array_equal(np.bincount(labels[second]), [40, 20, 5])


def test_subsample_names_the_class_that_is_too_small():
    with pytest.raises(DataError, match="class 1 has 2 images, 3 are asked for"):
        subsample(np.array([0, 0, 0, 1, 1]), [1, 3], seed=0)


@given(num_classes=st.integers(2, 40), largest=st.integers(100, 5000), factor=st.floats(1.0, 100.0))
def test_every_profile_falls_from_largest_to_largest_over_factor(num_classes, largest, factor):
    for counts_of in COUNTS.values():
        counts = counts_of(num_classes, largest=largest, imbalance_factor=factor)
        assert len(counts) == num_classes
        assert counts[0] == largest
        assert abs(counts[-1] - largest / factor) <= 1
        assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("profile", COUNTS)
def test_factor_one_keeps_everything(profile):
    assert COUNTS[profile](7, largest=31, imbalance_factor=1) == [31] * 7


@pytest.mark.parametrize("profile", COUNTS)
def test_one_class_keeps_everything(profile):
    counts = COUNTS[profile](1, largest=31, imbalance_factor=2)
    # `step` has no large half then.
    assert counts == ([15] if profile == "step" else [31])


def test_pareto_near_the_released_list():
    counts = pareto_counts(1000, largest=1280, imbalance_factor=256)
    groups = groups_by_count(np.array(counts))
    assert sum(counts) == 104_345
    assert [len(g) for g in (groups.many, groups.medium, groups.few)] == [349, 488, 163]


@pytest.mark.parametrize("factor", [0.5, 0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_below_one_is_refused(factor):
    with pytest.raises(ConfigError, match=r"--imbalance-factor .*: must be 1 or more"):
        check_imbalance_factor(factor)


@pytest.mark.parametrize("profile", COUNTS)
def test_a_factor_that_empties_a_class_is_refused(profile):
    with pytest.raises(ConfigError, match=r"--imbalance-factor 200: leaves .* without an image"):
        COUNTS[profile](10, largest=100, imbalance_factor=200)


@pytest.mark.parametrize("name", ["c10", "c100"])
def test_thirds_give_the_published_group_accuracies(golden, name):
    numbers = golden("pretraining/groups.npz")
    groups = groups_by_thirds(numbers[f"{name}_counts"])
    for group in ("many", "medium", "few"):
        mean = numbers[f"{name}_acc"][list(getattr(groups, group))].mean()
        np.testing.assert_allclose(mean, numbers[f"{name}_{group}"][0], rtol=1e-8)


def test_counts_give_the_published_group_accuracies(golden):
    numbers = golden("pretraining/groups.npz")
    groups = groups_by_count(numbers["in_counts"])
    for group in ("many", "medium", "few"):
        mean = numbers["in_acc"][list(getattr(groups, group))].mean()
        np.testing.assert_allclose(mean, numbers[f"in_{group}"], rtol=1e-12)


def test_borders_of_the_groups():
    groups = groups_by_count(np.array([101, 100, 20, 19, 0]))
    assert list(groups.many) == [0]
    assert list(groups.medium) == [1, 2]
    assert list(groups.few) == [3, 4]


@pytest.mark.parametrize(("num_classes", "sizes"), [(10, (4, 3, 3)), (100, (34, 33, 33))])
def test_sizes_of_the_thirds(num_classes, sizes):
    groups = groups_by_thirds(np.arange(num_classes))
    assert (len(groups.many), len(groups.medium), len(groups.few)) == sizes
    assert list(groups.few) == list(range(sizes[2]))


def test_thirds_of_two_classes_are_all_many():
    groups = groups_by_thirds(np.array([5, 9]))
    assert list(groups.many) == [0, 1]
    assert len(groups.medium) == len(groups.few) == 0


@given(counts=st.lists(st.integers(0, 300), min_size=1, max_size=60))
def test_groups_share_out_the_classes(counts):
    for rule in (groups_by_count, groups_by_thirds):
        groups = rule(np.array(counts))
        together = [*groups.many, *groups.medium, *groups.few]
        assert sorted(together) == list(range(len(counts)))
        parts = [
            np.array(counts)[list(g)] for g in (groups.few, groups.medium, groups.many) if len(g)
        ]
        for smaller, larger in pairwise(parts):
            assert smaller.max() <= larger.min()


@pytest.mark.parametrize("profile", COUNTS)
def test_a_subset_is_that_of_the_flags(profile):
    labels = np.repeat(np.arange(5), [60, 50, 55, 50, 70])[
        np.random.default_rng(0).permutation(285)
    ]
    wanted = make_long_tailed(labels, num_classes=5, profile=profile, imbalance_factor=10.0, seed=3)
    found = long_tailed_subset(labels.tolist(), imbalance_factor=10, seed=3, profile=profile)
    np.testing.assert_array_equal(found, wanted)
    counts = long_tailed_counts(5, largest=50, imbalance_factor=10, profile=profile)
    assert np.bincount(labels[found]).tolist() == counts


@pytest.mark.parametrize(
    ("labels", "options", "says"),
    [
        ([0, 1, 1], {"imbalance_factor": 0.5}, "--imbalance-factor 0.5: must be 1 or more"),
        ([0, 1, 1], {"imbalance_factor": float("nan")}, "--imbalance-factor nan"),
        ([0, 1, 1], {"imbalance_factor": 1, "profile": "linear"}, "--imbalance: 'linear'"),
        ([0, 1, 1], {"imbalance_factor": 1, "seed": -1}, "--split-seed -1"),
        ([0, 2, 2], {"imbalance_factor": 1}, "labels: no row of class 1"),
        ([0, -1], {"imbalance_factor": 1}, "labels: -1 is no class"),
        ([], {"imbalance_factor": 1}, "labels: float64 of shape"),
        ([[0, 1]], {"imbalance_factor": 1}, "labels: int64 of shape"),
    ],
)
def test_a_bad_subset_is_refused(labels, options, says):
    with pytest.raises((ConfigError, DataError), match=says):
        long_tailed_subset(labels, **options)
