from __future__ import annotations

import math

import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.losses.mixed_labels import MixedLabels
from ssl_lt.losses.semantic_labels import SemanticLabelOptions, SemanticLabels, semantic_shares

COUNTS = torch.tensor([50, 20, 7, 3, 1])
NUM_CLASSES, NUM_SAMPLES = len(COUNTS), 6
LABELS = MixedLabels(
    torch.tensor([0, 1, 2, 3, 4, 0]),
    torch.tensor([3, 4, 2, 0, 1, 2]),
    torch.tensor([0.3, 0.9, 0.5, 0.0, 1.0, 0.75]),
)


def projections():
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    return torch.randn(NUM_SAMPLES, 4, **draw), torch.randn(NUM_CLASSES, 4, **draw)


def rectified(number=2, labels=LABELS, counts=COUNTS, **options):
    made = SemanticLabels(counts, SemanticLabelOptions(**options))
    made.on_epoch_start(Epoch(number, 4, 1))
    return made(labels, *projections())


def slow(*, omega, nearest):
    """The rule, class by class."""
    features, prototypes = projections()
    found = []
    for i in range(NUM_SAMPLES):
        lam = LABELS.own_share[i].item()
        area = [0.0] * NUM_CLASSES
        area[LABELS.own[i]] += lam
        area[LABELS.partner[i]] += 1 - lam
        closeness = []
        for j in range(NUM_CLASSES):
            squares = sum((features[i, d] - prototypes[j, d]).item() ** 2 for d in range(4))
            closeness.append(1 / math.sqrt(squares))
        kept = sorted(range(NUM_CLASSES), key=lambda j: -closeness[j])[:nearest]
        total = sum(closeness[j] for j in kept)
        s = [closeness[j] / total if j in kept else 0.0 for j in range(NUM_CLASSES)]
        count = sum(n * y for n, y in zip(COUNTS.tolist(), area, strict=True))
        w = omega * math.log(count) / sum(math.log(n) for n in COUNTS.tolist())
        if lam == 1:
            w = 0.0
        found.append([w * s[j] + (1 - w) * area[j] for j in range(NUM_CLASSES)])
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("nearest", [1, 3, 5, 30])
@pytest.mark.parametrize("omega", [0.08, 1.0])
def test_the_rule_class_by_class(nearest, omega):
    found = rectified(rectify_weight=omega, rectify_classes=nearest)
    wanted = slow(omega=omega, nearest=nearest)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(NUM_SAMPLES, dtype=torch.float64))
    assert (found >= 0).all()


def test_images_that_are_not_mixed_keep_their_labels():
    area = LABELS.shares(NUM_CLASSES)
    found = rectified(rectify_weight=1.0)
    assert torch.equal(found[4], area[4].double())
    assert not torch.isclose(found[[0, 1, 2, 3, 5]], area[[0, 1, 2, 3, 5]].double()).all()
    whole = MixedLabels(LABELS.own)
    assert torch.equal(rectified(labels=whole), whole.shares(NUM_CLASSES).double())


def test_labels_are_by_area_before_their_epoch_and_without_weight():
    area = LABELS.shares(NUM_CLASSES).double()
    assert torch.equal(rectified(number=1), area)
    assert not torch.equal(rectified(number=2), area)
    assert torch.equal(rectified(rectify_weight=0.0), area)


def test_no_gradient_and_nothing_saved():
    made = SemanticLabels(COUNTS, SemanticLabelOptions(rectify_after=0.0))
    made.on_epoch_start(Epoch(0, 4, 1))
    features, prototypes = (x.requires_grad_() for x in projections())
    assert not made(LABELS, features, prototypes).requires_grad
    assert made.state_dict() == {}


def test_classes_may_be_permuted():
    order = torch.tensor([2, 0, 4, 1, 3])
    place = order.argsort()
    features, prototypes = projections()
    made = SemanticLabels(COUNTS[order], SemanticLabelOptions(rectify_after=0.0))
    made.on_epoch_start(Epoch(0, 4, 1))
    labels = MixedLabels(place[LABELS.own], place[LABELS.partner], LABELS.own_share)
    moved = made(labels, features, prototypes[order])
    torch.testing.assert_close(moved, rectified(rectify_after=0.0)[:, order])


def test_an_image_on_a_prototype_is_of_its_class_alone():
    prototypes = torch.eye(3)
    shares = semantic_shares(prototypes[:2], prototypes, num_nearest=3)
    torch.testing.assert_close(shares, torch.eye(3)[:2])


def test_one_image_a_class_leaves_labels_by_area():
    ones = torch.ones(NUM_CLASSES)
    assert torch.equal(rectified(counts=ones), LABELS.shares(NUM_CLASSES).double())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rectify_weight": 2.0}, r"--rectify-weight: 2.0 is outside \[0, 1\]"),
        ({"rectify_after": -1.0}, "--rectify-after"),
        ({"rectify_classes": 0}, "--rectify-classes: 0 is below 1"),
    ],
)
def test_values_outside_their_range(values, says):
    with pytest.raises(ConfigError, match=says):
        SemanticLabelOptions(**values)


def test_a_class_without_images_is_refused():
    with pytest.raises(ConfigError, match="no training image of class 1"):
        SemanticLabels(torch.tensor([3, 0]), SemanticLabelOptions())
