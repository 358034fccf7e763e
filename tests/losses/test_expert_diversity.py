from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssl_lt.core.types import Epoch
from ssl_lt.losses.effective_number import effective_number_weights
from ssl_lt.losses.expert_diversity import (
    DiverseExpertsLoss,
    class_temperatures,
    expert_divergences,
)
from ssl_lt.losses.ldam import ldam, ldam_margins

COUNTS = torch.tensor([50, 20, 6, 3])
OPTIONS = {"weight": -0.45, "temperature": 1.5, "strength": 0.3, "start": 0.5}


class Plain(nn.Module):
    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")


def logits(seed=0, num_experts=3, batch=5):
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(num_experts, batch, len(COUNTS), generator=g, dtype=torch.float64)


def labels(batch=5):
    return torch.arange(batch) % len(COUNTS)


def oracle(z, y, temperatures, weight):
    """Loops over samples, experts and classes."""
    losses = []
    for i in range(z.shape[1]):
        total = 0.0
        for e in range(z.shape[0]):
            mean = [sum(z[k, i, j].item() for k in range(len(z))) / len(z) for j in range(4)]
            p = [math.exp(m / t) for m, t in zip(mean, temperatures, strict=True)]
            q = [math.exp(z[e, i, j].item() / temperatures[j]) for j in range(4)]
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            own = [math.exp(z[e, i, j].item()) for j in range(4)]
            cross_entropy = -math.log(own[y[i]] / sum(own))
            square = (sum(temperatures) / 4) ** 2
            total += cross_entropy + weight * square * divergence
        losses.append(total)
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("epoch", [0, 4, 5, 9])
def test_equals_a_loop_over_samples_and_experts(epoch):
    loss = DiverseExpertsLoss(Plain(), COUNTS, **OPTIONS)
    loss.on_epoch_start(Epoch(epoch, 10, 1))
    w = [0.3 * 4 * n / COUNTS.sum().item() + 0.7 for n in COUNTS.tolist()]
    temperatures = [1.5 * v / max(w) for v in w] if epoch >= 5 else [1.5] * 4
    found = loss(logits(), labels())
    want = oracle(logits(), labels(), temperatures, -0.45)
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("epoch", [10, 170])
def test_golden(golden, epoch):
    d = golden("supervised/ride.npz")
    counts, y = torch.tensor(d["cls_num"]).double(), torch.tensor(d["labels"])
    z = torch.tensor(d["expert_logits"], requires_grad=True)
    late = epoch > d["reweight_epoch"]
    margins = float(d["s"]) * ldam_margins(counts, max_margin=float(d["max_m"]))
    weights = effective_number_weights(counts, beta=0.9999 if late else 0.0)[y]
    temperatures = torch.ones(10, dtype=torch.float64)
    if late:
        temperatures = class_temperatures(counts, strength=float(d["reweight_factor"]))
        np.testing.assert_allclose(temperatures, d["div_weights"], rtol=1e-12)
    losses = torch.stack([ldam(own, y, margins) for own in z]) * weights / weights.mean()
    losses = losses + float(d["diversity_factor"]) * expert_divergences(z, temperatures)
    total = losses.sum(dim=0).mean()
    total.backward()
    np.testing.assert_allclose(total.item(), d[f"ep{epoch}_loss"], rtol=1e-10)
    for e in range(3):
        np.testing.assert_allclose(z.grad[e], d[f"ep{epoch}_grad{e}"], rtol=1e-10, atol=1e-14)


def test_no_weight_is_the_sum_of_the_experts_losses_and_not_the_loss_of_their_mean():
    loss = DiverseExpertsLoss(Plain(), COUNTS, **{**OPTIONS, "weight": 0.0})
    z, y = logits(), labels()
    torch.testing.assert_close(loss(z, y), sum(Plain()(own, y) for own in z))
    near = DiverseExpertsLoss(Plain(), COUNTS, **{**OPTIONS, "weight": 1e-9})
    torch.testing.assert_close(near(z, y), loss(z, y))


def test_equal_experts_do_not_diverge_and_others_do():
    z = logits(num_experts=1)
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(
        expert_divergences(z.repeat(3, 1, 1), ones), torch.zeros(3, 5).double()
    )
    assert (expert_divergences(logits(), ones) > 0).all()


def test_the_mean_has_no_gradient():
    z = logits().requires_grad_()
    divergence = expert_divergences(z, torch.ones(4, dtype=torch.float64))[0].sum()
    (grad,) = torch.autograd.grad(divergence, z)
    assert grad[0].abs().sum() > 0
    assert grad[1:].abs().sum() == 0


def test_the_order_of_experts_and_classes_does_not_matter():
    loss = DiverseExpertsLoss(Plain(), COUNTS, **OPTIONS)
    z, y, order = logits(), labels(), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(loss(z[[2, 0, 1]], y), loss(z, y))
    other = DiverseExpertsLoss(Plain(), COUNTS[order], **OPTIONS)
    for either in (loss, other):
        either.on_epoch_start(Epoch(9, 10, 1))
    places = torch.argsort(order)
    # The temperatures are float32.
    found, expected = other(z[:, :, order], places[y]), loss(z, y)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_temperatures_follow_shares_and_uniform_classes_have_one():
    assert class_temperatures(COUNTS, strength=0.0).tolist() == [1.0] * 4
    assert class_temperatures(torch.full((4,), 7), strength=0.3).tolist() == [1.0] * 4
    found = class_temperatures(COUNTS, strength=0.3)
    torch.testing.assert_close(class_temperatures(10 * COUNTS, strength=0.3), found)
    assert found[0] == 1
    assert (found.diff() < 0).all()


def test_large_logits_stay_finite():
    z = (1e4 * logits()).requires_grad_()
    loss = DiverseExpertsLoss(Plain(), COUNTS, **OPTIONS)(z, labels()).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


def test_nothing_of_it_is_saved():
    assert DiverseExpertsLoss(Plain(), COUNTS, **OPTIONS).state_dict() == {}
