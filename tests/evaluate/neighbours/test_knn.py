import math

import pytest
import torch

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions, knn_predict


def features(rows, labels):
    rows = torch.as_tensor(rows, dtype=torch.float32)
    return Features(rows, torch.as_tensor(labels), torch.arange(len(rows)))


def clusters(num_rows, *, seed, num_classes=6, dim=16):
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(9))
    # A tail: class c is drawn with a probability that falls with c.
    labels = torch.multinomial(0.5 ** torch.arange(6.0), num_rows, True, generator=random)
    rows = centres[labels] + 1.5 * torch.randn(num_rows, dim, generator=random)
    return features(rows * torch.rand(num_rows, 1, generator=random).add(0.1), labels)


def brute_force(bank, queries, *, num_classes, k, temperature, vote="weighted"):
    """Written from the definition, one query at a time."""
    predictions = []
    counts = [bank.labels.tolist().count(c) for c in range(num_classes)]
    for q in queries.features.double():
        similar = []
        for row, label in zip(bank.features.double(), bank.labels.tolist(), strict=True):
            similar.append((float(q @ row / (q.norm() * row.norm())), label))
        similar.sort(reverse=True)
        votes = [[0.0, 0.0] for _ in range(num_classes)]
        for s, label in similar[:k]:
            weight = math.exp(s / temperature)
            if vote == "plain":  # equal numbers go to the class with the larger weight
                votes[label][0] += 1
                votes[label][1] += weight
            else:
                votes[label][0] += weight / (counts[label] if vote == "balanced" else 1)
        predictions.append(votes.index(max(votes)))
    return predictions


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 0.5), (150, 0.07)])
def test_equals_brute_force(k, temperature):
    bank, queries = clusters(300, seed=0), clusters(60, seed=1)
    found = knn_predict(bank, queries, num_classes=6, options=KNNOptions(k, temperature))
    expected = brute_force(bank, queries, num_classes=6, k=k, temperature=temperature)
    assert found.tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("k", [1, 4, 20, 150])
@pytest.mark.parametrize("vote", ["plain", "balanced"])
def test_other_votes_equal_brute_force(k, vote):
    bank, queries = clusters(300, seed=0), clusters(60, seed=1)
    found = knn_predict(bank, queries, num_classes=6, options=KNNOptions(k, 0.07, vote))
    expected = brute_force(bank, queries, num_classes=6, k=k, temperature=0.07, vote=vote)
    assert found.tolist() == expected
    if k > 4:
        weighted = knn_predict(bank, queries, num_classes=6, options=KNNOptions(k, 0.07))
        assert found.tolist() != weighted.tolist()


def test_balanced_votes_are_weighted_votes_on_a_balanced_bank():
    bank = clusters(600, seed=2)
    rows = torch.cat([torch.nonzero(bank.labels == c)[:9, 0] for c in range(6)])
    bank = Features(bank.features[rows], bank.labels[rows], torch.arange(len(rows)))
    queries = clusters(50, seed=3)
    plain, balanced = (
        knn_predict(bank, queries, num_classes=6, options=KNNOptions(10, 0.07, vote))
        for vote in ("weighted", "balanced")
    )
    assert torch.equal(plain, balanced)


def test_repeating_a_class_does_not_move_balanced_votes():
    bank, queries = clusters(200, seed=2), clusters(50, seed=3)
    again = torch.cat([torch.arange(200), torch.nonzero(bank.labels == 0)[:, 0]])
    double = Features(bank.features[again], bank.labels[again], torch.arange(len(again)))
    everyone = KNNOptions(len(bank), 0.07, "balanced"), KNNOptions(len(again), 0.07, "balanced")
    once, twice = (
        knn_predict(rows, queries, num_classes=6, options=options)
        for rows, options in zip((bank, double), everyone, strict=True)
    )
    assert torch.equal(once, twice)


def test_defaults_are_k_20_and_temperature_007():
    bank, queries = clusters(300, seed=2), clusters(40, seed=3)
    by_hand = knn_predict(bank, queries, num_classes=6, options=KNNOptions(20, 0.07))
    assert torch.equal(knn_predict(bank, queries, num_classes=6), by_hand)


def test_length_of_features_does_not_matter():
    bank, queries = clusters(200, seed=4), clusters(40, seed=5)
    longer = Features(queries.features * 1000, queries.labels, queries.index)
    assert torch.equal(
        knn_predict(bank, queries, num_classes=6), knn_predict(bank, longer, num_classes=6)
    )


def test_more_queries_than_one_slice_of_votes():
    bank, queries = clusters(100, seed=6), clusters(5000, seed=7)
    together = knn_predict(bank, queries, num_classes=6)
    tail = Features(queries.features[4000:], queries.labels[4000:], queries.index[4000:])
    assert torch.equal(together[4000:], knn_predict(bank, tail, num_classes=6))


def test_equal_votes_go_to_the_smaller_class_whatever_the_order():
    for labels in ([3, 1, 2], [1, 2, 3], [2, 3, 1]):
        bank = features([[1.0, 0.0]] * 3, labels)
        found = knn_predict(bank, features([[1.0, 0]], [0]), num_classes=4, options=KNNOptions(3))
        assert found.tolist() == [1]


def test_collapsed_features_give_the_same_answer_twice():
    bank = features(torch.ones(50, 4), torch.arange(50) % 5)
    queries = features(torch.ones(8, 4), torch.zeros(8, dtype=torch.int64))
    first = knn_predict(bank, queries, num_classes=5)
    assert torch.equal(first, knn_predict(bank, queries, num_classes=5))
    assert len(set(first.tolist())) == 1


def test_tiny_temperature_does_not_overflow():
    bank, queries = clusters(100, seed=8), clusters(30, seed=9)
    cold = knn_predict(bank, queries, num_classes=6, options=KNNOptions(20, 1e-6))
    nearest = knn_predict(bank, queries, num_classes=6, options=KNNOptions(1))
    assert torch.equal(cold, nearest)


def test_k_beyond_the_bank_names_the_flag():
    bank = clusters(10, seed=0)
    with pytest.raises(ConfigError, match=r"--knn-k: 20 .* 10 images"):
        knn_predict(bank, bank, num_classes=6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("where", ["bank", "queries"])
def test_rows_without_a_direction_are_refused(bad, where):
    good = clusters(30, seed=0)
    rows = good.features.clone()
    rows[7] = bad
    broken = Features(rows, good.labels, good.index)
    bank, queries = (broken, good) if where == "bank" else (good, broken)
    with pytest.raises(DataError, match=f"kNN {where}: 1 feature rows .* row 7"):
        knn_predict(bank, queries, num_classes=6)


def test_empty_bank_and_unknown_labels_are_refused():
    good = clusters(30, seed=0)
    empty = Features(good.features[:0], good.labels[:0], good.index[:0])
    with pytest.raises(DataError, match="no training features"):
        knn_predict(empty, good, num_classes=6)
    unknown = Features(good.features, torch.full((30,), -1), good.index)
    with pytest.raises(DataError, match="labels -1"):
        knn_predict(unknown, good, num_classes=6)
    assert knn_predict(good, empty, num_classes=6).shape == (0,)


@pytest.mark.parametrize(("k", "temperature"), [(0, 0.07), (5, 0.0), (5, float("nan"))])
def test_options_out_of_range(k, temperature):
    with pytest.raises(ConfigError, match="--knn-"):
        KNNOptions(k, temperature)
