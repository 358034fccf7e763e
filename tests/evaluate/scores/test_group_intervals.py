"""Intervals over groups of test images, against drawing the groups one after the other."""

import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.scores import intervals
from ssl_lt.evaluate.scores.accuracy import accuracy
from ssl_lt.evaluate.scores.correct_mask import pack_groups, unpack_groups
from ssl_lt.evaluate.scores.group_intervals import (
    GroupedAnswers,
    group_bootstrap,
    paired_group_difference,
    unpaired_group_difference,
)
from ssl_lt.evaluate.scores.intervals import BootstrapOptions, bootstrap

GROUPS = [Groups("made up", (0,), (1, 2), (3,)), Groups("no few", (0, 1, 2), (3,), ())]
MANY = BootstrapOptions(num_resamples=6000)
C = 4


def made_up(seed=0):
    """Patients of one to six images and one to two classes; all right or all wrong, mostly."""
    random = np.random.default_rng(seed)
    labels, ids, right = [], [], []
    for patient in range(200):
        own = random.choice(C, random.integers(1, 3), replace=False, p=[0.4, 0.25, 0.2, 0.15])
        good = random.random() < 0.6
        for _ in range(random.integers(1, 7)):
            labels.append(random.choice(own))
            ids.append(1000 - 7 * patient)
            right.append(good if random.random() < 0.9 else not good)
    order = random.permutation(len(labels))
    return tuple(np.array(part)[order] for part in (right, labels, ids))


def resampled(rights, labels, ids, num_resamples=1500):
    """The slow way: groups of the same rarest class are drawn, and all their images taken."""
    random = np.random.default_rng(1)
    classes_of = {g: {*labels[ids == g].tolist()} for g in np.unique(ids).tolist()}
    number = {c: sum(c in classes for classes in classes_of.values()) for c in range(C)}
    rarest = {g: min(classes, key=lambda c: (number[c], c)) for g, classes in classes_of.items()}
    strata = [[g for g, its in rarest.items() if its == c] for c in range(C)]
    rows_of = {g: np.flatnonzero(ids == g) for g in rarest}
    found = []
    for _ in range(num_resamples):
        drawn = [random.choice(stratum) for stratum in strata for _ in stratum]
        rows = np.concatenate([rows_of[g] for g in drawn])
        found.append(
            [
                accuracy(
                    np.where(right[rows], labels[rows], (labels[rows] + 1) % C),
                    labels[rows],
                    num_classes=C,
                    groups=GROUPS,
                )
                for right in rights
            ]
        )
    return found


def close(interval, values, *, to=0.02):
    low, high = np.quantile([v for v in values if v is not None], [0.025, 0.975])
    assert interval.low == pytest.approx(low, abs=to)
    assert interval.high == pytest.approx(high, abs=to)


@pytest.mark.slow
def test_against_drawing_groups():
    right, labels, ids = made_up()
    found = group_bootstrap(right, labels, ids, num_classes=C, groups=GROUPS, options=MANY)
    slow = [one for (one,) in resampled([right], labels, ids)]
    close(found.balanced, [one.balanced for one in slow])
    for i, group in enumerate(found.groups):
        assert group.rule == GROUPS[i].rule
        for name in ("many", "medium", "few", "std"):
            values = [getattr(one.groups[i], name) for one in slow]
            if all(value is None for value in values):
                assert getattr(group, name) is None
            else:
                close(getattr(group, name), values)
    hits, num_test = (np.bincount(rows, minlength=C) for rows in (labels[right], labels))
    narrow = bootstrap(hits, num_test).balanced
    assert found.balanced.high - found.balanced.low > 1.3 * (narrow.high - narrow.low)


@pytest.mark.slow
def test_differences_against_drawing_groups_for_both():
    before, labels, ids = made_up()
    after = np.where(np.random.default_rng(5).random(labels.size) < 0.8, before, ~before)
    answers = GroupedAnswers(before, labels, ids)
    found = paired_group_difference(answers, after, num_classes=C, groups=GROUPS, options=MANY)
    slow = resampled([before, after], labels, ids)
    close(found.balanced, [b.balanced - a.balanced for a, b in slow])
    values = [b.groups[0].std - a.groups[0].std for a, b in slow]
    close(found.groups[0].std, values)
    apart = unpaired_group_difference(
        answers, GroupedAnswers(after, labels, ids), num_classes=C, options=MANY
    )
    mixed = np.random.default_rng(2).permutation([a.balanced for a, _ in slow])
    close(apart.balanced, [b.balanced - a for a, (_, b) in zip(mixed, slow, strict=True)])
    same = paired_group_difference(answers, before, num_classes=C)
    assert same.balanced.low == same.balanced.high == 0


def test_groups_of_one_image_are_drawn_as_images():
    right, labels, _ = made_up(3)
    alone = group_bootstrap(
        right, labels, np.arange(labels.size), num_classes=C, groups=GROUPS, options=MANY
    )
    hits, num_test = (np.bincount(rows, minlength=C) for rows in (labels[right], labels))
    plain = bootstrap(hits, num_test, groups=GROUPS, options=MANY)
    for a, b in ((alone.balanced, plain.balanced), (alone.groups[0].std, plain.groups[0].std)):
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.01)


def test_covers_the_truth_as_often_as_it_says():
    random, inside = np.random.default_rng(0), 0
    options = BootstrapOptions(num_resamples=400)
    labels, ids = np.repeat(np.arange(2), 240), np.repeat(np.arange(80), 6)
    for _ in range(300):
        right = np.repeat(random.random(80) < 0.7, 6)
        found = group_bootstrap(right, labels, ids, num_classes=2, options=options).balanced
        inside += found.low <= 0.7 <= found.high
    assert 0.89 <= inside / 300 <= 0.985


def test_a_rare_class_that_is_not_always_drawn():
    # Class 1 is in one group, beside class 2, which is in that group alone, too.
    labels, ids = np.array([0, 0, 0, 1, 2, 0]), np.array([1, 2, 3, 4, 4, 4])
    right = np.array([True, False, True, True, False, True])
    found = group_bootstrap(
        right, labels, ids, num_classes=3, groups=[Groups("r", (0,), (1,), (2,))]
    )
    assert (found.groups[0].medium.low, found.groups[0].medium.high) == (1, 1)
    assert np.isfinite([found.balanced.low, found.groups[0].std.high]).all()
    one = group_bootstrap(right[:1], labels[:1], ids[:1], num_classes=3)
    assert one.balanced.low == one.balanced.high == 1


def test_parts_and_seeds(monkeypatch):
    right, labels, ids = made_up()
    found = group_bootstrap(right, labels, ids, num_classes=C, groups=GROUPS)
    assert found == group_bootstrap(right, labels, ids, num_classes=C, groups=GROUPS)
    assert found != group_bootstrap(
        right, labels, ids, num_classes=C, groups=GROUPS, options=BootstrapOptions(seed=1)
    )
    monkeypatch.setattr(intervals, "_LARGEST", 200 * 300)
    again = group_bootstrap(right, labels, ids, num_classes=C, groups=GROUPS)
    assert again.num_resamples == 2000
    assert again.balanced.low == pytest.approx(found.balanced.low, abs=0.02)


def test_what_does_not_fit():
    with pytest.raises(DataError, match="bootstrap: 2 answers to 3 test images"):
        group_bootstrap(np.ones(2, bool), np.zeros(3, int), np.zeros(3, int), num_classes=1)
    with pytest.raises(DataError, match="bootstrap: 0 answers to 0 test images"):
        group_bootstrap(np.ones(0, bool), np.zeros(0, int), np.zeros(0, int), num_classes=1)


def test_groups_are_kept_class_by_class():
    labels, ids = np.array([1, 0, 1, 0]), np.array([-5, 9, 9, -5])
    packed = pack_groups(ids, labels)
    assert unpack_groups(packed, num_images=4).tolist() == [1, 0, 0, 1]
    with pytest.raises(DataError, match="test_groups: 16 bytes for 5 test images"):
        unpack_groups(packed, num_images=5)
    with pytest.raises(DataError, match="test_groups: damaged"):
        unpack_groups("??", num_images=5)
