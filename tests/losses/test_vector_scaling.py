import math

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.losses.cross_entropy import cross_entropy
from ssl_lt.losses.effective_number import effective_number_weights
from ssl_lt.losses.logit_adjustment import class_log_prior, logit_adjusted_cross_entropy
from ssl_lt.losses.vector_scaling import (
    VectorScaling,
    VectorScalingOptions,
    vector_scaling,
    vector_scaling_factors,
)
from tests.losses.logits import COUNTS, assert_golden, batch, golden_batch, weighted_mean

SETTINGS = [(0.05, 1.0), (0.0, 1.0), (0.15, 1.25), (0.2, 1.2), (0.3, 0.0)]


def oracle(logits, labels, counts, gamma, tau):
    out = []
    for f, y in zip(logits.tolist(), labels.tolist(), strict=True):
        terms = [
            math.exp(x / (max(counts) / n) ** gamma) * (n / sum(counts)) ** tau
            for x, n in zip(f, counts, strict=True)
        ]
        out.append(-math.log(terms[y] / sum(terms)))
    return out


@pytest.mark.parametrize(("gamma", "tau"), SETTINGS)
def test_equals_the_paper(gamma, tau):
    logits, labels = batch()
    loss = VectorScaling(COUNTS, VectorScalingOptions(gamma=gamma, tau=tau))
    wanted = oracle(logits, labels, COUNTS.tolist(), gamma, tau)
    np.testing.assert_allclose(loss(logits, labels).detach(), wanted, rtol=1e-12)


def golden_weights(d, classes, counts, weighting):
    if weighting == "none":
        return torch.ones(classes)
    if weighting == "drw":
        return effective_number_weights(counts, beta=0.9999)
    return torch.tensor(d[f"adrw{classes}_nu0.25"])


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("gamma", "tau"), SETTINGS)
@pytest.mark.parametrize("weighting", ["none", "drw", "adrw0.25"])
def test_golden(golden, classes, gamma, tau, weighting):
    d = golden("supervised/vs.npz")
    logits, labels, counts = golden_batch(d, classes)
    loss = VectorScaling(counts, VectorScalingOptions(gamma=gamma, tau=tau))
    key = f"vs{classes}_g{gamma}_t{tau}"
    np.testing.assert_allclose(1 / loss.factors, d[f"{key}_Delta"], rtol=1e-10)
    np.testing.assert_allclose(loss.shifts, d[f"{key}_iota"], rtol=1e-10, atol=0)
    weights = golden_weights(d, classes, counts, weighting)
    total = weighted_mean(loss(logits, labels), labels, weights)
    assert_golden(d, f"{key}_{weighting}", total, logits)


@pytest.mark.parametrize("classes", [10, 100])
def test_golden_truncated(golden, classes):
    d = golden("supervised/vs.npz")
    logits, labels, counts = golden_batch(d, classes)
    options = VectorScalingOptions(gamma=0.05, tau=0.75, truncate_after=0.8)
    loss = VectorScaling(counts, options)
    loss.on_epoch_start(Epoch(160, 200, 1))
    total = weighted_mean(loss(logits, labels), labels, d[f"adrw{classes}_nu0.25"])
    wanted = d[f"tla{classes}_g0.05_t0.75_nu0.25_loss"]
    np.testing.assert_allclose(total.item(), wanted, rtol=1e-10)
    (grad,) = torch.autograd.grad(total, logits)
    np.testing.assert_allclose(grad, d[f"tla{classes}_grad"], rtol=1e-9, atol=1e-14)


def test_golden_alpha_beta_delta(golden):
    d = golden("supervised/vs.npz")
    logits, labels, counts = golden_batch(d, 10)
    beta, delta = torch.tensor(d["slides_beta"]), torch.tensor(d["slides_Delta"])
    losses = torch.tensor(d["slides_alpha"])[labels] * vector_scaling(logits, labels, beta, delta)
    np.testing.assert_allclose(losses.detach(), d["slides_per_example"], rtol=1e-10)
    np.testing.assert_allclose(vector_scaling_factors(counts, gamma=0.05), beta, rtol=1e-10)


def test_special_cases():
    logits, labels = batch()
    adjusted = logit_adjusted_cross_entropy(logits, labels, class_log_prior(COUNTS), tau=1.2)
    off = VectorScaling(COUNTS, VectorScalingOptions(gamma=0.0, tau=1.2))
    torch.testing.assert_close(off(logits, labels), adjusted)
    even = VectorScaling(torch.full((4,), 9), VectorScalingOptions(gamma=0.4, tau=0.7))
    torch.testing.assert_close(even(logits, labels), cross_entropy(logits, labels))
    counts = COUNTS * 3
    one, other = (VectorScaling(n, VectorScalingOptions()) for n in (COUNTS, counts))
    torch.testing.assert_close(one(logits, labels), other(logits, labels))


@pytest.mark.parametrize(("share", "first"), [(1.0, 10), (0.8, 8), (0.75, 8), (0.0, 0)])
def test_truncation_follows_the_epoch_alone(share, first):
    logits, labels = batch()
    loss = VectorScaling(COUNTS, VectorScalingOptions(truncate_after=share))
    whole = VectorScaling(COUNTS, VectorScalingOptions())(logits, labels)
    adjusted = logit_adjusted_cross_entropy(logits, labels, class_log_prior(COUNTS), tau=1.0)
    # Backwards as well: a run may be resumed at any epoch.
    for number in (*range(10), *reversed(range(10))):
        loss.on_epoch_start(Epoch(number, 10, 4))
        torch.testing.assert_close(loss(logits, labels), whole if number < first else adjusted)
    assert not torch.allclose(whole, adjusted)
    assert loss.state_dict() == {}


def test_bad_input():
    with pytest.raises(ConfigError, match=r"--gamma: -0.1"):
        VectorScalingOptions(gamma=-0.1)
    with pytest.raises(ConfigError, match=r"--tau: -1.0"):
        VectorScalingOptions(tau=-1.0)
    with pytest.raises(ConfigError, match=r"--truncate-after: 1.5 is outside \[0, 1\]"):
        VectorScalingOptions(truncate_after=1.5)
    with pytest.raises(ConfigError, match="counts_per_class: no training image of class 0"):
        vector_scaling_factors(torch.tensor([0, 4]), gamma=0.1)
