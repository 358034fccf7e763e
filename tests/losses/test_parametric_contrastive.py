"""PaCo and GPaCo: the classifier's rows among the keys of a supervised contrast."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.labelled_rows import LabelledRows, labelled_rows
from ssl_lt.losses.logit_adjustment import class_log_prior, logit_adjusted_cross_entropy
from ssl_lt.losses.parametric_contrastive import (
    EMPTY,
    MomentumContrastiveOptions,
    ParametricContrastiveLoss,
    ParametricContrastiveOptions,
    SmoothedContrastiveOptions,
    parametric_contrastive,
    smoothed,
)
from ssl_lt.losses.supervised_contrastive import supervised_contrastive

NUM_CLASSES = 5
COUNTS = torch.tensor([500, 120, 40, 9, 5], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 3, 1, 1, 0])
QUEUE_LABELS = torch.tensor([2, 0, EMPTY, 1, 4, EMPTY, 0])
WEIGHTS = {"temperature": 0.2, "alpha": 0.05, "gamma": 0.7}


def unit(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1)


def case(labels=LABELS, *, smoothing=0.0, beta=1.0, seed=0):
    """Centres, targets and rows: queries, keys of the same pictures and a queue with gaps."""
    q = unit(len(labels), 4, seed=seed)
    keys = torch.cat([q, unit(len(labels), 4, seed=seed + 1), unit(7, 4, seed=seed + 2)])
    rows = LabelledRows(
        anchors=q,
        labels=labels,
        keys=keys,
        key_labels=torch.cat([labels, labels, QUEUE_LABELS]),
        own=torch.arange(len(labels)),
    )
    one_hot = F.one_hot(labels, NUM_CLASSES).double()
    centres = 2 * unit(len(labels), NUM_CLASSES, seed=seed + 3)
    return centres, beta * smoothed(one_hot, smoothing=smoothing), rows


def oracle(centres, targets, rows, *, temperature, alpha, gamma):
    """Loss of each anchor, term by term."""
    out = []
    for i, label in enumerate(rows.labels.tolist()):
        scores, weights, denominator = [], [], 0.0
        for j in range(centres.shape[1]):
            scores.append(float(centres[i, j]))
            weights.append(float(targets[i, j]))
            denominator += math.exp(scores[-1])
        for k, key_label in enumerate(rows.key_labels.tolist()):
            if k == int(rows.own[i]) or key_label == EMPTY:
                continue
            score = float(rows.anchors[i] @ rows.keys[k]) / temperature
            denominator += gamma * math.exp(score)
            if key_label == label:
                scores.append(score)
                weights.append(alpha)
        total = 0.0
        for score, weight in zip(scores, weights, strict=True):
            total -= weight * math.log(math.exp(score) / denominator)
        out.append(total / sum(weights))
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("beta", [1.0, 3.0])
@pytest.mark.parametrize("alpha", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_is_its_equation(smoothing, beta, alpha, gamma):
    made = case(smoothing=smoothing, beta=beta)
    weights = {"temperature": 0.2, "alpha": alpha, "gamma": gamma}
    found = parametric_contrastive(*made, **weights)
    assert found.shape == (6,)
    torch.testing.assert_close(found, oracle(*made, **weights), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    centres, targets, rows = case(smoothing=0.1)

    def loss(centres, anchors, keys):
        changed = replace(rows, anchors=anchors, keys=keys)
        return parametric_contrastive(centres, targets, changed, **WEIGHTS)

    inputs = [t.clone().requires_grad_() for t in (centres, rows.anchors, rows.keys)]
    assert torch.autograd.gradcheck(loss, inputs)


def test_empty_slots_count_for_nothing():
    centres, targets, rows = case()
    there = rows.key_labels != EMPTY
    fewer = replace(rows, keys=rows.keys[there], key_labels=rows.key_labels[there])
    found, wanted = (parametric_contrastive(centres, targets, r, **WEIGHTS) for r in (rows, fewer))
    torch.testing.assert_close(found, wanted)
    keys = rows.keys.clone().requires_grad_()
    parametric_contrastive(centres, targets, replace(rows, keys=keys), **WEIGHTS).sum().backward()
    assert not keys.grad[~there].any()
    assert keys.grad[there].abs().sum(dim=1).all()


def test_without_keys_it_is_logit_adjustment():
    _, _, rows = case()
    logits = 3 * unit(6, NUM_CLASSES, seed=8)
    options = ParametricContrastiveOptions(alpha=0, gamma=0)
    loss = ParametricContrastiveLoss(COUNTS, options, smoothing=0.0)
    prior = class_log_prior(COUNTS)
    wanted = logit_adjusted_cross_entropy(logits, LABELS, prior, tau=1.0)
    torch.testing.assert_close(loss(logits, rows), wanted, rtol=1e-6, atol=1e-6)
    # An empty queue and a picture alone leave the centres alone, whatever the weights.
    alone = replace(
        labelled_rows(rows.anchors[:1], LABELS[:1]),
        keys=torch.cat([rows.anchors[:1], torch.zeros(3, 4, dtype=torch.float64)]),
        key_labels=torch.tensor([0, EMPTY, EMPTY, EMPTY]),
    )
    loss = ParametricContrastiveLoss(COUNTS, ParametricContrastiveOptions(), smoothing=0.0)
    torch.testing.assert_close(loss(logits[:1], alone), wanted[:1], rtol=1e-6, atol=1e-6)


def test_without_centres_it_is_supervised_contrast():
    labels = torch.tensor([0, 0, 1, 1, 1])
    rows = labelled_rows(unit(5, 4), labels)
    # Centres so far below that nothing of them is left in the denominator, and no targets there.
    centres, targets = torch.full((5, 3), -1e3).double(), torch.zeros(5, 3).double()
    found = parametric_contrastive(centres, targets, rows, temperature=0.2, alpha=0.3, gamma=1.0)
    torch.testing.assert_close(found, supervised_contrastive(rows, temperature=0.2))


def test_smoothing_is_that_of_torch_with_its_share_for_the_label_taken_off():
    logits, share = unit(6, NUM_CLASSES), 0.2
    target = smoothed(F.one_hot(LABELS, NUM_CLASSES).double(), smoothing=share)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(6).double())
    found = -(target * logits.log_softmax(dim=1)).sum(dim=1)
    of_torch = share * NUM_CLASSES / (NUM_CLASSES - 1)
    wanted = F.cross_entropy(logits, LABELS, label_smoothing=of_torch, reduction="none")
    torch.testing.assert_close(found, wanted)


def test_only_the_ratio_of_alpha_and_beta_counts_and_no_order_of_keys():
    centres, targets, rows = case()
    found = parametric_contrastive(centres, targets, rows, **WEIGHTS)
    scaled = {**WEIGHTS, "alpha": 4 * WEIGHTS["alpha"]}
    torch.testing.assert_close(parametric_contrastive(centres, 4 * targets, rows, **scaled), found)
    order = torch.randperm(len(rows.keys), generator=torch.Generator().manual_seed(5))
    mixed = replace(
        rows,
        keys=rows.keys[order],
        key_labels=rows.key_labels[order],
        own=torch.argsort(order)[rows.own],
    )
    torch.testing.assert_close(parametric_contrastive(centres, targets, mixed, **WEIGHTS), found)


def test_counts_are_seen_as_shares_and_supt_divides_the_adjusted_logits():
    _, _, rows = case()
    logits = unit(6, NUM_CLASSES, seed=8)
    options = ParametricContrastiveOptions(supt=2.0, alpha=0.05, beta=1.5, gamma=0.5)
    found = ParametricContrastiveLoss(COUNTS, options, smoothing=0.1)(logits, rows)
    again = ParametricContrastiveLoss(7 * COUNTS, options, smoothing=0.1)(logits, rows)
    torch.testing.assert_close(found, again, rtol=1e-6, atol=1e-6)
    centres = (logits + (COUNTS / COUNTS.sum()).log()) / 2
    targets = 1.5 * smoothed(F.one_hot(LABELS, NUM_CLASSES).double(), smoothing=0.1)
    wanted = oracle(centres, targets, rows, temperature=0.05, alpha=0.05, gamma=0.5)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("labels", [[2], [3, 3, 3], [0, 4]])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_is_finite_for_any_batch(labels, scale):
    centres, targets, rows = case(torch.tensor(labels), smoothing=0.1)
    inputs = [t.float().requires_grad_() for t in (scale * centres, rows.anchors, rows.keys)]
    rows = replace(rows, anchors=inputs[1], keys=inputs[2])
    losses = parametric_contrastive(
        inputs[0], targets.float(), rows, temperature=0.05, alpha=0.01, gamma=1.0
    )
    assert losses.isfinite().all()
    assert losses.shape == (len(labels),)
    grads = torch.autograd.grad(losses.sum(), inputs)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize(
    ("options", "value", "flag"),
    [
        (ParametricContrastiveOptions, {"alpha": -0.1}, "--alpha: -0.1 is negative"),
        (ParametricContrastiveOptions, {"gamma": float("nan")}, "--gamma: nan is negative"),
        (ParametricContrastiveOptions, {"beta": 0.0}, "--beta: 0.0 is not a positive"),
        (ParametricContrastiveOptions, {"supt": float("inf")}, "--supt: inf is not a positive"),
        (ParametricContrastiveOptions, {"temperature": 0.0}, "--temperature: 0.0 is not"),
        (ParametricContrastiveOptions, {"queue_size": 0}, "--queue-size: 0, must be"),
        (ParametricContrastiveOptions, {"hidden_dim": 0}, "--hidden-dim: 0, must be"),
        (ParametricContrastiveOptions, {"output_dim": -1}, "--output-dim: -1, must be"),
        (MomentumContrastiveOptions, {"key_momentum": 1.0}, "--key-momentum: 1.0 is outside"),
        (MomentumContrastiveOptions, {"alpha": -1.0}, "--alpha"),
        (SmoothedContrastiveOptions, {"smoothing": 1.0}, "--smoothing: 1.0 is outside"),
        (SmoothedContrastiveOptions, {"beta": -1.0}, "--beta"),
    ],
)
def test_options_name_their_flag(options, value, flag):
    with pytest.raises(ConfigError, match=flag):
        options(**value)


def test_a_class_without_images_is_refused():
    with pytest.raises(ConfigError, match="no training image of class 1"):
        ParametricContrastiveLoss(
            torch.tensor([4, 0]), ParametricContrastiveOptions(), smoothing=0.0
        )
