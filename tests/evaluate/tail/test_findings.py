"""Measures of scores, against loops over pairs and images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.evaluate.tail.findings import (
    auc_few_vs_many,
    find_few,
    measure_coverage,
    rarest_first,
)

COUNTS = np.array([120, 60, 12])
LABELS = np.repeat(np.arange(3), COUNTS)
RULES = [groups_by_count(COUNTS), groups_by_thirds(COUNTS)]


def scores(seed, *, ties=True):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, len(LABELS)) if ties else rng.permutation(len(LABELS))
    return values.astype(np.float64)


def test_the_list_falls_and_the_unknown_stand_at_its_end():
    score = scores(2)
    score[[0, 9]] = np.nan
    order = rarest_first(score)
    assert sorted(order.tolist()) == list(range(len(score)))
    assert set(order[-2:].tolist()) == {0, 9}
    assert (np.diff(score[order[:-2]]) <= 0).all()
    np.testing.assert_array_equal(order, rarest_first(score))


def test_equal_ones_do_not_stand_in_the_order_of_their_rows():
    order = rarest_first(np.zeros(2000))
    halves = (order[:1000] < 1000).mean()
    assert 0.4 < halves < 0.6


@pytest.mark.parametrize("groups", RULES, ids=["count", "thirds"])
def test_auc_and_precision_are_those_of_loops(groups):
    score = scores(3, ties=False) + 40.0 * (LABELS == 2)
    score[[5, 190]] = np.nan
    known = [(s, c) for s, c in zip(score, LABELS, strict=True) if np.isfinite(s)]
    pairs = [(a > b) + 0.5 * (a == b) for a, i in known for b, j in known if i == 2 and j == 0]
    ranked = sorted(known, reverse=True)
    for k in (1, 10, 50):
        found = find_few("density", score, LABELS, groups, top=k)
        assert (found.score, found.rule) == ("density", groups.rule)
        assert found.auc == pytest.approx(np.mean(pairs))
        assert found.base_rate == pytest.approx(np.mean([c == 2 for _, c in known]))
        assert found.precision == pytest.approx(np.mean([c == 2 for _, c in ranked[:k]]))
    assert find_few("density", score, LABELS, groups, top=len(known) + 1).precision is None


@pytest.mark.parametrize("ties", [True, False])
def test_auc_is_that_of_scikit_learn_and_of_any_rising_function(ties):
    score = scores(4, ties=ties)
    ends = LABELS != 1
    expected = roc_auc_score(LABELS[ends] == 2, score[ends])
    assert auc_few_vs_many(score, LABELS, RULES[0]) == pytest.approx(expected)
    assert auc_few_vs_many(np.exp(score / 99) * 7, LABELS, RULES[0]) == pytest.approx(expected)
    assert auc_few_vs_many(-score, LABELS, RULES[0]) == pytest.approx(1 - expected)


def test_known_values():
    perfect = find_few("x", LABELS.astype(float), LABELS, RULES[0], top=12)
    assert (perfect.auc, perfect.precision) == (1, 1)
    assert find_few("x", -LABELS.astype(float), LABELS, RULES[0], top=12).auc == 0
    assert find_few("x", np.zeros(len(LABELS)), LABELS, RULES[0], top=1).auc == 0.5
    assert auc_few_vs_many(LABELS + 0.0, LABELS, groups_by_count(np.array([200, 150, 120]))) is None


def test_nothing_known_is_no_error():
    found = find_few("x", np.full(len(LABELS), np.nan), LABELS, RULES[0], top=1)
    assert (found.auc, found.base_rate, found.precision) == (None, 0.0, None)


def test_coverage_counts_classes_and_random_ones():
    labels = np.repeat(np.arange(5), [60, 20, 10, 6, 4])
    found = measure_coverage(labels, np.array([0, 1, 61, 99, 98, 85]))
    draws = []
    for seed in range(10):
        rows = np.random.default_rng(seed).permutation(labels)[:6]
        draws.append(len(set(rows.tolist())))
    error = np.std(draws, ddof=1) / np.sqrt(10)
    assert (found.budget, found.num_covered) == (6, 4)
    assert found.random_mean == pytest.approx(np.mean(draws))
    assert found.random_interval.high == pytest.approx(np.mean(draws) + 2.2622 * error, rel=1e-4)
    assert found.random_interval.low == pytest.approx(np.mean(draws) - 2.2622 * error, rel=1e-4)
    everything = measure_coverage(labels, np.arange(100))
    assert everything.random_mean == everything.random_interval.low == everything.num_covered == 5
