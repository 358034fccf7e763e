from __future__ import annotations

import pytest
import torch

from ssl_lt.models.classifiers import CosineClassifier, linear_classifier
from ssl_lt.models.expert_classifiers import ComplementaryClassifiers, ExpertClassifiers

GROUPS = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]], dtype=torch.bool)
KINDS = {"linear": linear_classifier, "cosine": CosineClassifier}


def heads(kind):
    torch.manual_seed(0)
    return [KINDS[kind](5, 4).double() for _ in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_head_sees_its_own_features_and_the_mean_predicts(kind):
    classifier = ExpertClassifiers(heads(kind))
    x = torch.randn(6, 15, dtype=torch.float64)
    each = [head(x[:, 5 * e : 5 * e + 5]) for e, head in enumerate(classifier.heads)]
    torch.testing.assert_close(classifier.per_expert(x), torch.stack(each))
    torch.testing.assert_close(classifier(x), (each[0] + each[1] + each[2]) / 3)


@pytest.mark.parametrize("kind", KINDS)
def test_only_responsible_experts_predict_on_one_scale(kind):
    classifier = ComplementaryClassifiers(heads(kind), GROUPS)
    with torch.no_grad():
        for e, head in enumerate(classifier.heads):
            head.weight.mul_(10.0**-e)
    x = torch.randn(6, 15, dtype=torch.float64)
    z = classifier.per_expert(x)
    found = classifier(x)
    for j in range(4):
        experts = [e for e in range(3) if GROUPS[e, j]]
        scaled = []
        for e in experts:
            scale = 1.0
            if kind == "linear":
                rows = [k for k in range(4) if GROUPS[e, k]]
                first = classifier.heads[0].weight[rows].square().sum().sqrt()
                scale = first / classifier.heads[e].weight[rows].square().sum().sqrt()
            scaled.append(scale * z[e, :, j])
        torch.testing.assert_close(found[:, j], sum(scaled) / len(experts))


def test_scales_have_no_gradient_and_weights_of_zero_no_harm():
    classifier = ComplementaryClassifiers(heads("linear"), GROUPS)
    assert not classifier.scales().requires_grad
    with torch.no_grad():
        classifier.heads[2].weight.zero_()
    assert torch.isfinite(classifier(torch.randn(2, 15, dtype=torch.float64))).all()


def test_what_is_saved_are_the_heads():
    keys = set(ComplementaryClassifiers(heads("linear"), GROUPS).state_dict())
    assert keys == {f"heads.{e}.{name}" for e in range(3) for name in ("weight", "bias")}
