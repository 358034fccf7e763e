import numpy as np

from ssl_lt.evaluate.scores.confusion import count_confusion, from_matrix


def test_against_counting_one_by_one():
    random = np.random.default_rng(0)
    true, predicted = random.integers(0, 7, (2, 400))
    expected = np.zeros((7, 7), dtype=np.int64)
    for t, p in zip(true, predicted, strict=True):
        expected[t, p] += 1
    found = count_confusion(predicted, true, num_classes=7)
    assert found == from_matrix(expected.tolist())
    np.testing.assert_array_equal(found.hits(num_classes=7), expected.diagonal())


def test_as_many_entries_as_pairs_that_occur():
    found = count_confusion([3, 3, 0], [3, 3, 99_999], num_classes=100_000)
    assert (found.true, found.predicted, found.images) == ((3, 99_999), (3, 0), (2, 1))


def test_small_integers_do_not_wrap():
    true = np.full(5, 300, dtype=np.int16)
    found = count_confusion(true, true, num_classes=400)
    assert (found.true, found.predicted, found.images) == ((300,), (300,), (5,))
