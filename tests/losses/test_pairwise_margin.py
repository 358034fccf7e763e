import math

import numpy as np
import pytest
import torch

from ssl_lt.losses.balanced_softmax import BalancedSoftmaxOptions, balanced_softmax
from ssl_lt.losses.cross_entropy import cross_entropy
from ssl_lt.losses.logit_adjustment import class_log_prior, logit_adjusted_cross_entropy
from ssl_lt.losses.pairwise_margin import (
    PairwiseMargin,
    PairwiseMarginOptions,
    consistent_parameters,
    pairwise_margin,
)
from tests.losses.logits import COUNTS, assert_golden, batch, golden_batch, weighted_mean

PRIOR = COUNTS / COUNTS.sum()


def oracle(logits, labels, margins, weights):
    out = []
    for f, y in zip(logits.tolist(), labels.tolist(), strict=True):
        total = 1.0
        for j in range(len(f)):
            if j != y:
                total += math.exp(margins[y][j]) * math.exp(f[j] - f[y])
        out.append(weights[y] * math.log(total))
    return out


def test_equals_the_paper():
    logits, labels = batch()
    g = torch.Generator().manual_seed(2)
    margins = torch.randn(4, 4, generator=g, dtype=torch.float64).fill_diagonal_(0)
    weights = torch.rand(4, generator=g, dtype=torch.float64)
    got = pairwise_margin(logits, labels, margins, weights)
    wanted = oracle(logits, labels, margins.tolist(), weights.tolist())
    np.testing.assert_allclose(got.detach(), wanted, rtol=1e-12)


def test_parameters_are_those_of_the_theorem():
    delta = torch.tensor([3.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    margins, weights = consistent_parameters(PRIOR, delta)
    for y in range(4):
        for j in range(4):
            assert margins[y, j].item() == pytest.approx(math.log(delta[j] / delta[y]))
    # Up to one factor, the one that leaves the mean over training images at 1.
    np.testing.assert_allclose(weights * PRIOR / delta, [1 / 4.6] * 4, rtol=1e-12)
    assert (PRIOR * weights).sum().item() == pytest.approx(1)


def test_logit_adjustment_is_a_member():
    logits, labels = batch()
    loss = PairwiseMargin(COUNTS, PairwiseMarginOptions(member="la"))
    wanted = logit_adjusted_cross_entropy(logits, labels, class_log_prior(COUNTS), tau=1.0)
    torch.testing.assert_close(loss(logits, labels), wanted, rtol=1e-12, atol=0)


def test_the_balanced_loss_is_a_member():
    logits, labels = batch()
    loss = PairwiseMargin(COUNTS, PairwiseMarginOptions(member="balanced"))
    wanted = cross_entropy(logits, labels) / (4 * PRIOR[labels])
    torch.testing.assert_close(loss(logits, labels), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("classes", [10, 100])
def test_golden_of_members(golden, classes):
    d = golden("supervised/logit_adjust_balsoftmax.npz")
    logits, labels, counts = golden_batch(d, classes)
    loss = PairwiseMargin(counts, PairwiseMarginOptions(member="la"))
    assert_golden(d, f"la{classes}_t1.0", loss(logits, labels).mean(), logits)
    # The weighted loss of the released code has weights besides, divided by their sum.
    weighted = weighted_mean(loss(logits, labels), labels, d[f"law{classes}_weight"])
    np.testing.assert_allclose(weighted.item(), d[f"law{classes}_t1.0_loss"], rtol=1e-10)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_golden_balanced_softmax(golden, classes, reduction):
    d = golden("supervised/logit_adjust_balsoftmax.npz")
    logits, labels, counts = golden_batch(d, classes)
    losses = balanced_softmax(counts, BalancedSoftmaxOptions())(logits, labels)
    np.testing.assert_allclose(losses.detach(), d[f"bs{classes}_none_loss"], rtol=1e-10)
    assert_golden(d, f"bs{classes}_{reduction}", getattr(losses, reduction)(), logits)


@pytest.mark.parametrize("member", ["la", "balanced"])
def test_training_to_the_end_finds_the_balanced_posterior(member):
    """Fisher consistency: free logits settle at log of p(y|x) / p(y)."""
    posterior = torch.tensor([0.9, 0.08, 0.015, 0.005], dtype=torch.float64)
    prior = torch.tensor([0.7, 0.2, 0.07, 0.03], dtype=torch.float64)
    loss = PairwiseMargin(1000 * prior, PairwiseMarginOptions(member=member))
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    lbfgs = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure():
        lbfgs.zero_grad()
        risk = (posterior * loss(logits.expand(4, 4), torch.arange(4))).sum()
        risk.backward()
        return risk

    lbfgs.step(closure)
    wanted = posterior / prior
    np.testing.assert_allclose(
        logits.detach().softmax(1)[0], wanted / wanted.sum(), rtol=1e-4, atol=1e-6
    )
