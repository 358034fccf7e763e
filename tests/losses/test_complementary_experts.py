from __future__ import annotations

import math

import pytest
import torch

from ssl_lt.losses.complementary_experts import (
    ComplementaryExpertsLoss,
    interference,
    over_own_images,
)
from ssl_lt.losses.logit_adjustment import LogitAdjustment, LogitAdjustmentOptions

COUNTS = torch.tensor([4, 60, 9, 30, 2])
GROUPS = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1]], dtype=torch.bool)
RATES = torch.tensor([1.0, 15 / 105, 6 / 105])
LABELS = torch.tensor([1, 1, 3, 0, 4, 2, 1, 0])


def make(weight=0.7, tau=1.3):
    options = LogitAdjustmentOptions(tau)
    losses = [LogitAdjustment(COUNTS[own], options) for own in GROUPS]
    return ComplementaryExpertsLoss(losses, GROUPS, RATES, weight=weight)


def logits(batch=8):
    g = torch.Generator().manual_seed(0)
    return 2 * torch.randn(3, batch, 5, generator=g, dtype=torch.float64)


def oracle(z, y, weight=0.7, tau=1.3):
    """The batch loss: loops over experts, their images and their classes."""
    total = 0.0
    for e in range(3):
        own = [j for j in range(5) if GROUPS[e, j]]
        others = [j for j in range(5) if not GROUPS[e, j]]
        images = [i for i in range(len(y)) if int(y[i]) in own]
        n = sum(int(COUNTS[j]) for j in own)
        summed = 0.0
        for i in images:
            f = {j: z[e, i, j].item() + tau * math.log(int(COUNTS[j]) / n) for j in own}
            summed += math.log(sum(math.exp(v) for v in f.values())) - f[int(y[i])]
            if others:
                summed += weight * sum(z[e, i, j].item() ** 2 for j in others) / len(others)
        total += RATES[e].item() * summed / max(1, len(images))
    return total


def test_equals_a_loop_over_experts_and_images():
    found = make()(logits(), LABELS)
    assert found.shape == LABELS.shape
    assert found.mean().item() == pytest.approx(oracle(logits(), LABELS), rel=1e-6)


def test_one_expert_with_all_classes_is_its_loss():
    loss = LogitAdjustment(COUNTS, LogitAdjustmentOptions())
    everything = torch.ones(1, 5, dtype=torch.bool)
    alone = ComplementaryExpertsLoss([loss], everything, torch.ones(1), weight=3.0)
    torch.testing.assert_close(alone(logits()[:1], LABELS), loss(logits()[0], LABELS))


def test_an_expert_learns_from_its_images_alone_and_all_its_logits_do():
    z = logits().requires_grad_()
    make()(z, LABELS).sum().backward()
    for e in range(3):
        own = GROUPS[e, LABELS]
        assert (z.grad[e, own] != 0).all()
        assert (z.grad[e, ~own] == 0).all()


def test_interfering_logits_are_drawn_to_zero():
    z = logits()
    torch.testing.assert_close(
        interference(z[2], GROUPS[2]), z[2][:, [1, 2, 3]].square().mean(dim=1)
    )
    assert interference(z[0], GROUPS[0]).tolist() == [0.0] * len(LABELS)


@pytest.mark.parametrize("own", [[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_the_mean_over_own_images(own):
    losses, own = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor(own, dtype=torch.bool)
    want = losses[own].mean() if own.any() else torch.zeros(())
    assert over_own_images(losses, own).mean() == want


@pytest.mark.parametrize("y", [[1], [4], [1, 1, 3], [0, 0]])
def test_any_batch_is_finite(y):
    z = (1e3 * logits(len(y))).requires_grad_()
    loss = make()(z, torch.tensor(y)).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


def test_the_order_of_images_does_not_matter():
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    found = make()(logits(), LABELS)
    torch.testing.assert_close(make()(logits()[:, order], LABELS[order]), found[order])


def test_nothing_of_it_is_saved():
    assert make().state_dict() == {}
