"""Ranks and measures of rarity, against loops over pairs and samples."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.evaluate.tail import (
    auc_few_vs_many,
    cluster_sizes,
    frequency_correlation,
    mean_rank,
    rarest_first,
    rarities,
    relative_rank,
    score_rarity,
)

COUNTS = np.array([120, 60, 12])
LABELS = np.repeat(np.arange(3), COUNTS)
RULES = [groups_by_count(COUNTS), groups_by_thirds(COUNTS)]


def scores(seed, *, ties=True):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, len(LABELS)) if ties else rng.permutation(len(LABELS))
    return values.astype(np.float64)


def test_a_rank_is_the_share_of_smaller_and_half_of_equal_ones():
    rarity = scores(0)
    rarity[[3, 70]] = np.nan
    found = relative_rank(rarity)
    known = rarity[np.isfinite(rarity)]
    for value, rank in zip(rarity, found, strict=True):
        if np.isnan(value):
            assert np.isnan(rank)
            continue
        expected = np.mean([(other < value) + 0.5 * (other == value) for other in known])
        assert rank == pytest.approx(expected)


def test_ranks_are_those_of_any_rising_function():
    rarity = scores(1)
    np.testing.assert_array_equal(relative_rank(np.exp(rarity) * 7), relative_rank(rarity))


def test_a_mean_of_ranks_passes_over_what_is_unknown():
    a, b = np.array([0.1, np.nan, np.nan, 0.5]), np.array([0.3, 0.9, np.nan, 0.1])
    np.testing.assert_allclose(mean_rank([a, b]), [0.2, 0.9, np.nan, 0.3])


def test_cluster_sizes_are_counted():
    clusters = np.array([2, 0, 2, -1, 2, 7, 0])
    np.testing.assert_array_equal(cluster_sizes(clusters), [3, 2, 3, np.nan, 3, 1, 2])


def test_rarities_are_high_for_the_rare():
    kept = {
        "memorisation": np.array([0.1, 0.9, 0.5], dtype=np.float32),
        "disagreement": np.array([np.nan, 0.4, 0.2], dtype=np.float32),
        "gh_cluster": np.array([4, 1, 4]),
        "gh_prior": np.ones(5, dtype=np.float32),
    }
    found = rarities(kept)
    assert list(found) == ["memorisation", "disagreement", "cluster", "combined"]
    assert found["combined"].argmax() == 1
    first = (1 / 6 + 1 / 3) / 2  # memorisation and cluster; its disagreement is unknown
    second = (5 / 6 + 3 / 4 + 5 / 6) / 3
    third = (1 / 2 + 1 / 4 + 1 / 3) / 3
    np.testing.assert_allclose(found["combined"], [first, second, third])


def test_a_score_that_nobody_has_is_left_out():
    assert rarities({"disagreement": np.full(3, np.nan), "gh_cluster": np.full(3, -1)}) == {}
    assert rarities({"gh_prior": np.ones(4)}) == {}
    one = rarities({"memorisation": np.array([0.2, 0.1]), "gh_cluster": np.full(2, -1)})
    assert list(one) == ["memorisation", "combined"]
    np.testing.assert_array_equal(rarest_first(one["combined"]), [0, 1])


def test_the_list_falls_and_the_unknown_stand_at_its_end():
    rarity = scores(2)
    rarity[[0, 9]] = np.nan
    order = rarest_first(rarity)
    assert sorted(order.tolist()) == list(range(len(rarity)))
    assert set(order[-2:].tolist()) == {0, 9}
    assert (np.diff(rarity[order[:-2]]) <= 0).all()
    np.testing.assert_array_equal(order, rarest_first(rarity))


def test_equal_ones_do_not_stand_in_the_order_of_their_rows():
    order = rarest_first(np.zeros(2000))
    halves = (order[:1000] < 1000).mean()
    assert 0.4 < halves < 0.6


@pytest.mark.parametrize("groups", RULES, ids=["count", "thirds"])
def test_auc_and_precision_are_those_of_loops(groups):
    rarity = scores(3, ties=False) + 40.0 * (LABELS == 2)
    rarity[[5, 190]] = np.nan
    found = score_rarity(rarity, LABELS, groups, top=(1, 10, 50, 1000))
    known = [(r, c) for r, c in zip(rarity, LABELS, strict=True) if np.isfinite(r)]
    pairs = [(a > b) + 0.5 * (a == b) for a, i in known for b, j in known if i == 2 and j == 0]
    assert found.auc == pytest.approx(np.mean(pairs))
    assert found.base_rate == pytest.approx(np.mean([c == 2 for _, c in known]))
    ranked = sorted(known, reverse=True)
    assert [k for k, _ in found.precision_at] == [1, 10, 50]
    for k, precision in found.precision_at:
        assert precision == pytest.approx(np.mean([c == 2 for _, c in ranked[:k]]))


def test_known_values():
    perfect = score_rarity(LABELS.astype(float), LABELS, RULES[0], top=(12, 24))
    assert perfect.auc == 1
    assert perfect.precision_at == ((12, 1.0), (24, 0.5))
    assert score_rarity(-LABELS.astype(float), LABELS, RULES[0], top=(12,)).auc == 0
    assert score_rarity(np.zeros(len(LABELS)), LABELS, RULES[0], top=()).auc == 0.5
    assert auc_few_vs_many(LABELS + 0.0, LABELS, groups_by_count(np.array([200, 150, 120]))) is None


def test_nothing_known_is_no_error():
    found = score_rarity(np.full(len(LABELS), np.nan), LABELS, RULES[0], top=(1,))
    assert (found.auc, found.base_rate, found.precision_at) == (None, 0.0, ())


def test_correlation_with_the_frequency():
    assert frequency_correlation(LABELS + 0.0, LABELS, COUNTS) == pytest.approx(-1)
    assert frequency_correlation(-LABELS + 0.0, LABELS, COUNTS) == pytest.approx(1)
    assert frequency_correlation(np.zeros(len(LABELS)), LABELS, COUNTS) is None
    assert frequency_correlation(LABELS + 0.0, LABELS, np.array([5, 5, 5])) is None
