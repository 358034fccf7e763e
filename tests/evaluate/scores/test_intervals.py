import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.scores import intervals
from ssl_lt.evaluate.scores.accuracy import accuracy
from ssl_lt.evaluate.scores.intervals import (
    BootstrapOptions,
    bootstrap,
    paired_difference,
    unpaired_difference,
)

NUM_TEST = np.array([300, 100, 200, 0, 250, 50])
GROUPS = [
    Groups("made up", (0, 1), (2, 3), (4, 5)),
    Groups("no few", (0, 1, 2), (4, 5), (3,)),
]
LABELS = np.repeat(np.arange(6), NUM_TEST)
MANY = BootstrapOptions(num_resamples=20_000)


def answers(seed, p=0.6):
    return np.random.default_rng(seed).random(LABELS.size) < p


def hits_of(right):
    return np.bincount(LABELS, right, minlength=6).astype(np.int64)


def resampled(rights, num_resamples=2000):
    """The slow way: draws images of each class with replacement, one resample after the other."""
    random = np.random.default_rng(1)
    starts = np.cumsum(NUM_TEST) - NUM_TEST
    found = []
    for _ in range(num_resamples):
        rows = np.concatenate(
            [s + random.integers(0, n, n) for s, n in zip(starts, NUM_TEST, strict=True) if n]
        )
        found.append(
            [
                accuracy(
                    np.where(right[rows], LABELS[rows], (LABELS[rows] + 1) % 6),
                    LABELS[rows],
                    num_classes=6,
                    groups=GROUPS,
                )
                for right in rights
            ]
        )
    return found


def close(interval, values, *, to=0.008):
    low, high = np.quantile(values, [0.025, 0.975])
    assert interval.low == pytest.approx(low, abs=to)
    assert interval.high == pytest.approx(high, abs=to)


def test_binomial_draws_against_drawing_images():
    right = answers(0)
    found = bootstrap(hits_of(right), NUM_TEST, groups=GROUPS, options=MANY)
    slow = [one for (one,) in resampled([right])]
    close(found.balanced, [one.balanced for one in slow])
    for i, group in enumerate(found.groups):
        assert group.rule == GROUPS[i].rule
        for name in ("many", "medium", "few", "std"):
            values = [getattr(one.groups[i], name) for one in slow]
            if values[0] is None:
                assert getattr(group, name) is None
            else:
                close(getattr(group, name), values)
    assert found.groups[1].few is None


def test_multinomial_draws_against_drawing_images_of_both():
    before = answers(0)
    after = np.where(np.random.default_rng(5).random(LABELS.size) < 0.8, before, answers(1, 0.9))
    found = paired_difference(before, after, NUM_TEST, groups=GROUPS, options=MANY)
    slow = resampled([before, after])
    close(found.balanced, [b.balanced - a.balanced for a, b in slow])
    for name in ("many", "medium", "few", "std"):
        values = [getattr(b.groups[0], name) - getattr(a.groups[0], name) for a, b in slow]
        close(getattr(found.groups[0], name), values)
    apart = unpaired_difference(
        (hits_of(before), NUM_TEST), (hits_of(after), NUM_TEST), groups=GROUPS, options=MANY
    )
    width, wide = (i.balanced.high - i.balanced.low for i in (found, apart))
    assert width < 0.8 * wide
    values = np.random.default_rng(2).permutation([a.balanced for a, _ in slow])
    close(apart.balanced, [b.balanced - a for a, (_, b) in zip(values, slow, strict=True)])


def test_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    truth = np.array([0.9, 0.5, 0.3, 0.7])
    num_test = np.full(4, 100)
    inside = 0
    for seed in range(300):
        found = bootstrap(random.binomial(num_test, truth), num_test).balanced
        inside += found.low <= truth.mean() <= found.high
        assert seed < 299 or 0.91 <= inside / 300 <= 0.985


def test_same_answers_differ_by_nothing_and_perfect_ones_never():
    right = answers(3)
    found = paired_difference(right, right, NUM_TEST, groups=GROUPS)
    assert found.balanced.low == found.balanced.high == 0
    assert found.groups[0].std.high == 0
    perfect = bootstrap(NUM_TEST, NUM_TEST, groups=GROUPS)
    assert perfect.balanced.low == perfect.balanced.high == 1
    assert perfect.groups[0].std.high == 0


def test_seed_level_and_sign():
    hits = hits_of(answers(0))
    assert bootstrap(hits, NUM_TEST) == bootstrap(hits, NUM_TEST)
    other = bootstrap(hits, NUM_TEST, options=BootstrapOptions(seed=1))
    assert other != bootstrap(hits, NUM_TEST)
    narrow = bootstrap(hits, NUM_TEST, options=BootstrapOptions(level=0.5))
    assert narrow.balanced.low > bootstrap(hits, NUM_TEST).balanced.low
    better = np.ones_like(answers(0))
    assert paired_difference(answers(0), better, NUM_TEST).balanced.low > 0


def test_counts_that_do_not_fit():
    with pytest.raises(DataError, match="0 test images"):
        bootstrap(np.zeros(3, int), np.zeros(3, int))
    with pytest.raises(DataError, match="more right test images"):
        bootstrap(np.array([3]), np.array([2]))
    with pytest.raises(DataError, match="899 and 900 of 900"):
        paired_difference(answers(0)[1:], answers(0), NUM_TEST)


def test_resamples_in_parts_are_the_same_draws(monkeypatch):
    before, after = answers(0), answers(1, 0.7)
    whole = (
        bootstrap(hits_of(before), NUM_TEST, groups=GROUPS),
        paired_difference(before, after, NUM_TEST, groups=GROUPS),
    )
    monkeypatch.setattr(intervals, "_LARGEST", 6 * 300)
    assert bootstrap(hits_of(before), NUM_TEST, groups=GROUPS) == whole[0]
    assert paired_difference(before, after, NUM_TEST, groups=GROUPS) == whole[1]
