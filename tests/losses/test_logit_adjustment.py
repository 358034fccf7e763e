import math

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.cross_entropy import CrossEntropy, CrossEntropyOptions, cross_entropy
from ssl_lt.losses.logit_adjustment import (
    LogitAdjustment,
    LogitAdjustmentOptions,
    class_log_prior,
    logit_adjusted_cross_entropy,
)


def batch(num=7, classes=4):
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(num, classes, generator=g, dtype=torch.float64, requires_grad=True)
    return logits, torch.randint(classes, (num,), generator=g)


def oracle(logits, labels, counts, tau):
    out = []
    for f, y in zip(logits.tolist(), labels.tolist(), strict=True):
        total = 0.0
        for j, n in enumerate(counts):
            total += (n / counts[y]) ** tau * math.exp(f[j] - f[y])
        out.append(math.log(total))
    return out


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_equals_the_pairwise_form(tau):
    logits, labels = batch()
    counts = [500, 60, 9, 1]
    log_prior = torch.log(torch.tensor(counts, dtype=torch.float64) / sum(counts))
    got = logit_adjusted_cross_entropy(logits, labels, log_prior, tau=tau)
    np.testing.assert_allclose(got.detach(), oracle(logits, labels, counts, tau), rtol=1e-12)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("tau", [0.5, 1.0, 1.3, 2.0])
def test_golden(golden, classes, tau):
    d = golden("supervised/logit_adjust_balsoftmax.npz")
    logits = torch.tensor(d[f"logits{classes}"], requires_grad=True)
    labels = torch.tensor(d[f"labels{classes}"])
    counts = torch.tensor(d[f"cls_num{classes}"], dtype=torch.float64)
    log_prior = torch.log(counts / counts.sum())
    loss = logit_adjusted_cross_entropy(logits, labels, log_prior, tau=tau).mean()
    np.testing.assert_allclose(loss.item(), d[f"la{classes}_t{tau}_loss"], rtol=1e-10)
    (grad,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(grad, d[f"la{classes}_t{tau}_grad"], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("classes", [10, 100])
def test_balanced_softmax_is_tau_one(golden, classes):
    d = golden("supervised/logit_adjust_balsoftmax.npz")
    logits = torch.tensor(d[f"logits{classes}"])
    labels = torch.tensor(d[f"labels{classes}"])
    loss = LogitAdjustment(torch.tensor(d[f"cls_num{classes}"]), LogitAdjustmentOptions())
    want = d[f"bs{classes}_none_loss"]
    np.testing.assert_allclose(loss(logits, labels), want, rtol=2e-6)  # the prior is float32


def test_balanced_counts_and_tau_zero_give_cross_entropy():
    logits, labels = batch()
    base = CrossEntropy(torch.ones(4), CrossEntropyOptions())(logits, labels)
    np.testing.assert_allclose(base.detach(), oracle(logits, labels, [1, 1, 1, 1], 0.0), rtol=1e-12)
    even = LogitAdjustment(torch.full((4,), 25), LogitAdjustmentOptions(tau=1.7))
    torch.testing.assert_close(even(logits, labels), base)
    off = LogitAdjustment(torch.tensor([9, 3, 2, 1]), LogitAdjustmentOptions(tau=0.0))
    torch.testing.assert_close(off(logits, labels), base)


def test_only_the_shares_of_the_counts_matter():
    counts = torch.tensor([50, 10, 4, 2])
    torch.testing.assert_close(class_log_prior(counts), class_log_prior(7 * counts))


def test_a_constant_added_to_all_logits_is_not_seen():
    logits, labels = batch()
    torch.testing.assert_close(cross_entropy(logits + 50.0, labels), cross_entropy(logits, labels))


def test_a_class_without_images_is_refused():
    with pytest.raises(ConfigError, match="counts_per_class: no training image of class 2"):
        LogitAdjustment(torch.tensor([5, 3, 0, 0]), LogitAdjustmentOptions())


def test_the_prior_is_not_saved_with_the_weights():
    loss = LogitAdjustment(torch.tensor([5, 3]), LogitAdjustmentOptions())
    assert loss.log_prior.shape == (2,)
    assert loss.state_dict() == {}
