import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.class_balanced import (
    ClassBalancedFocalOptions,
    ClassBalancedOptions,
    cb_focal,
    cb_sigmoid,
    cb_softmax,
    one_against_all_bias,
    sigmoid_focal,
)
from ssl_lt.losses.cross_entropy import cross_entropy
from tests.losses.logits import COUNTS, assert_golden, batch, golden_batch

CASES = [("softmax", 0.0), ("sigmoid", 0.0), ("focal", 0.5), ("focal", 1.0), ("focal", 2.0)]


def build(kind, counts, beta, gamma):
    if kind == "focal":
        return cb_focal(counts, ClassBalancedFocalOptions(beta=beta, gamma=gamma))
    return {"softmax": cb_softmax, "sigmoid": cb_sigmoid}[kind](
        counts, ClassBalancedOptions(beta=beta)
    )


def oracle(logits, labels, gamma):
    out = []
    for f, y in zip(logits.tolist(), labels.tolist(), strict=True):
        total = 0.0
        for j, x in enumerate(f):
            p = 1 / (1 + math.exp(-x if j == y else x))
            total += -((1 - p) ** gamma) * math.log(p)
        out.append(total)
    return out


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_focal_equals_the_paper(gamma):
    logits, labels = batch()
    got = sigmoid_focal(logits, labels, gamma=gamma)
    np.testing.assert_allclose(got.detach(), oracle(logits, labels, gamma), rtol=1e-12)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize(("kind", "gamma"), CASES)
def test_golden(golden, classes, beta, kind, gamma):
    d = golden("supervised/class_balanced.npz")
    logits, labels, counts = golden_batch(d, classes)
    loss = build(kind, counts, beta, gamma)(logits, labels).mean()
    assert_golden(d, f"tf{classes}_b{beta}_{kind}_g{gamma}", loss, logits)


@pytest.mark.parametrize("classes", [10, 100])
def test_where_other_code_differs(golden, classes):
    """PyTorch divides by the batch's weights; the port averages sigmoids over the classes."""
    d = golden("supervised/class_balanced.npz")
    logits, labels, counts = golden_batch(d, classes)
    loss = build("softmax", counts, 0.9999, 0.0)
    divided = loss(logits, labels).sum() / loss.weights[labels].sum()
    np.testing.assert_allclose(divided.item(), d[f"torchce{classes}_b0.9999_loss"], rtol=1e-10)
    sigmoid = build("sigmoid", counts, 0.9999, 0.0)(logits, labels).mean() / classes
    wanted = d[f"vandit{classes}_b0.9999_sigmoid_g0.0_loss"]
    np.testing.assert_allclose(sigmoid.item(), wanted, rtol=1e-6)  # float32 there


@pytest.mark.parametrize(("kind", "gamma"), CASES)
def test_uniform_counts_and_beta_zero_give_the_base(kind, gamma):
    logits, labels = batch()
    base = sigmoid_focal(logits, labels, gamma=gamma)
    if kind == "softmax":
        base = cross_entropy(logits, labels)
    even = build(kind, torch.full((4,), 25, dtype=torch.float64), 0.99, gamma)
    torch.testing.assert_close(even(logits, labels), base)
    torch.testing.assert_close(build(kind, COUNTS, 0.0, gamma)(logits, labels), base)


def test_large_logits_stay_finite():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    for gamma in (0.0, 0.5, 2.0):
        losses = sigmoid_focal(logits, torch.tensor([0, 0]), gamma=gamma)
        np.testing.assert_allclose(losses.tolist(), [0.0, 400.0])
        (grad,) = torch.autograd.grad(losses.sum(), logits)
        assert grad.isfinite().all()


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_initial_bias_makes_each_class_as_likely_as_the_others(classes):
    bias = torch.full((1, classes), one_against_all_bias(classes), dtype=torch.float64)
    torch.testing.assert_close(bias.sigmoid().sum(), torch.tensor(1.0, dtype=torch.float64))
    started = sigmoid_focal(bias, torch.tensor([0]), gamma=0.0)
    unstarted = sigmoid_focal(torch.zeros_like(bias), torch.tensor([0]), gamma=0.0)
    assert started <= unstarted
    assert started < 2 + F.softplus(-bias[0, 0])


def test_bad_input():
    with pytest.raises(ConfigError, match="--gamma: -1"):
        ClassBalancedFocalOptions(gamma=-1.0)
    with pytest.raises(ConfigError, match=r"--beta: 1.0"):
        ClassBalancedFocalOptions(beta=1.0)
    loss = cb_softmax(torch.tensor([5, 3]), ClassBalancedOptions())
    assert loss.state_dict() == {}
