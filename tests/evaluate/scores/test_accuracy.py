import json

import numpy as np
import pytest
import torch

from ssl_lt.core.disk.plain import to_plain
from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups
from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.evaluate.scores.accuracy import (
    accuracy,
    accuracy_by_group,
    accuracy_from_counts,
)


def counts_of(per_class, num_test=1000):
    """Right and all test images of each class that give the accuracies."""
    hits = np.round(np.asarray(per_class) * num_test).astype(np.int64)
    return hits, np.full(len(hits), num_test)


def test_golden_shots_and_means(golden):
    z = golden("supervised/metrics.npz")
    groups = groups_by_count(z["train_counts"])
    found = accuracy(z["preds"], z["labels"], num_classes=100, groups=[groups])
    np.testing.assert_allclose(found.per_class, z["per_class"], rtol=1e-12)
    (by_count,) = found.groups
    for name in ("many", "medium", "few"):
        assert getattr(by_count, name) == pytest.approx(float(z[name]), rel=1e-10)
    assert found.overall == pytest.approx(float(z["top1"]), rel=1e-12)
    assert found.balanced == pytest.approx(float(z["balanced_acc"]), rel=1e-12)
    assert found.harmonic == pytest.approx(float(z["harmonic"]), rel=1e-10)
    assert found.geometric == pytest.approx(float(z["geometric"]), rel=1e-10)
    assert found.worst == pytest.approx(float(z["worst"]))
    assert found.worst_class == int(np.argmin(z["per_class"]))
    assert found.class_std == pytest.approx(float(z["std"]), rel=1e-10)
    assert by_count.num_classes == (35, 35, 30)


@pytest.mark.parametrize("prefix", ["c10", "c100"])
def test_golden_thirds(golden, prefix):
    z = golden("pretraining/groups.npz")
    # A test set of 10^8 images a class has these accuracies to 1e-8; only counts are handed over.
    counts = counts_of(z[f"{prefix}_acc"] / 100, num_test=10**8)
    found = accuracy_from_counts(*counts, groups=[groups_by_thirds(z[f"{prefix}_counts"])])
    (thirds,) = found.groups
    for name in ("many", "medium", "few"):
        assert getattr(thirds, name) * 100 == pytest.approx(float(z[f"{prefix}_{name}"][0]), 1e-7)
    assert found.balanced * 100 == pytest.approx(float(z[f"{prefix}_all"][0]), 1e-7)
    assert thirds.std == pytest.approx(float(z[f"{prefix}_group_std"][0]), rel=1e-6)
    assert found.class_std == pytest.approx(float(z[f"{prefix}_class_std"][0]), rel=1e-6)


def test_golden_imagenet_groups(golden):
    z = golden("pretraining/groups.npz")
    counts = counts_of(z["in_acc"] / 100, num_test=10**8)
    (by_count,) = accuracy_from_counts(*counts, groups=[groups_by_count(z["in_counts"])]).groups
    for name in ("many", "medium", "few", "std"):
        assert getattr(by_count, name) * 100 == pytest.approx(float(z[f"in_{name}"]), rel=1e-6)


def test_unbalanced_test_set_counts_every_class_alike():
    # Class 0: 9 of 10 right, class 1: 1 of 2.
    found = accuracy([0] * 9 + [1] + [1, 0], [0] * 10 + [1, 1], num_classes=2)
    assert found.balanced == pytest.approx(0.7)
    assert found.overall == pytest.approx(10 / 12)


def test_class_at_zero():
    found = accuracy([0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1], num_classes=2)
    assert found.harmonic == 0.0
    assert found.geometric == 0.0
    assert (found.worst, found.worst_class) == (0.0, 1)
    # 1 at its own value, 0 lifted to one image in four: 2 / (1/1 + 1/0.25).
    assert found.harmonic_floored == pytest.approx(0.4)


def test_class_without_test_images_counts_nowhere():
    groups = Groups("rule", (0,), (1,), (2,))
    found = accuracy([0, 0, 1], [0, 0, 0], num_classes=3, groups=[groups])
    assert found.per_class == (pytest.approx(2 / 3), None, None)
    assert found.balanced == pytest.approx(2 / 3)
    assert found.worst_class == 0
    (only,) = found.groups
    assert (only.medium, only.few, only.std) == (None, None, None)
    assert only.num_classes == (1, 0, 0)


def test_std_over_the_groups_that_exist():
    counts = counts_of([0.8, 0.5, 0.3])
    few_empty = Groups("rule", (0,), (1, 2), ())
    (found,) = accuracy_from_counts(*counts, groups=[few_empty]).groups
    assert found.few is None
    assert found.std == pytest.approx(np.std([0.8, 0.4]))


def test_permuting_classes_permutes_the_classes_only():
    random = np.random.default_rng(1)
    true, predicted = random.integers(0, 5, (2, 300))
    renamed = random.permutation(5)
    a = accuracy(predicted, true, num_classes=5)
    b = accuracy(renamed[predicted], renamed[true], num_classes=5)
    assert [b.per_class[c] for c in renamed] == list(a.per_class)
    assert b.harmonic == pytest.approx(a.harmonic)


def test_to_dict_is_plain_json():
    groups = groups_by_thirds(np.array([9, 5, 1]))
    found = accuracy([0, 1, 2], [0, 1, 1], num_classes=3, groups=[groups])
    again = json.loads(json.dumps(to_plain(found), allow_nan=False))
    assert again["per_class"] == [1.0, 0.5, None]
    assert again["groups"][0]["few"] is None


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([0, 1], [0], "predictions"),
        ([], [], "at least one"),
        ([0, -1], [0, 1], "predictions: -1"),
        ([0, 1], [0, 2], "labels: 0 ... 2"),
        ([0.0, 1.0], [0, 1], "float64"),
    ],
)
def test_bad_input_is_named(predictions, labels, message):
    with pytest.raises(DataError, match=message):
        accuracy(predictions, labels, num_classes=2)


def test_accuracy_by_group_is_that_of_a_report():
    counts, labels = np.array([300, 90, 40, 5]), np.repeat(np.arange(4), 6)
    predictions = np.where(np.arange(24) % 6 < 4, labels, 0)
    groups = (groups_by_count(counts), groups_by_thirds(counts))
    wanted = accuracy(predictions, labels, num_classes=4, groups=groups)
    assert accuracy_by_group(predictions.tolist(), torch.tensor(labels), counts) == wanted
    by_count, _ = wanted.groups
    assert (by_count.many, by_count.medium, by_count.few) == pytest.approx((1, 4 / 6, 4 / 6))
    with pytest.raises(DataError, match=r"labels: 0 \.\.\. 3 do not fit"):
        accuracy_by_group(predictions, labels, counts[:3])
    with pytest.raises(DataError, match="counts: "):
        accuracy_by_group(predictions, labels, [counts])
