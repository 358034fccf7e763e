"""PSC, and the cross-entropy that stands beside it in the hybrid losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.losses.pairwise_margin import balanced_cross_entropy
from ssl_lt.losses.prototypical_contrastive import (
    PrototypicalContrastiveLoss,
    prototypical_contrastive,
)

GOLDEN = "supervised/misc_formula.npz"


def unit(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1)


def oracle(z, labels, prototypes, t):
    out = []
    for row, y in zip(z, labels.tolist(), strict=True):
        scores = [float(row @ p) / t for p in prototypes]
        others = sum(math.exp(s) for j, s in enumerate(scores) if j != y)
        out.append(-math.log(math.exp(scores[y]) / others))
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("t", [1.0, 0.1])
def test_golden(golden, t):
    numbers = golden(GOLDEN)
    z, labels, prototypes = (torch.from_numpy(numbers[f"psc_{k}"]) for k in ("z", "y", "protos"))
    losses = prototypical_contrastive(z, labels, prototypes, temperature=t)
    wanted = torch.tensor(float(numbers[f"psc_t{t}_loss"]), dtype=torch.float64)
    torch.testing.assert_close(losses.mean(), wanted, rtol=1e-10, atol=0)


@pytest.mark.parametrize("t", [1.0, 0.1])
def test_is_its_equation(t):
    z, prototypes, labels = unit(7, 6), unit(5, 6, seed=1), torch.tensor([0, 4, 4, 1, 0, 2, 2])
    found = prototypical_contrastive(z, labels, prototypes, temperature=t)
    torch.testing.assert_close(found, oracle(z, labels, prototypes, t), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    labels = torch.tensor([0, 4, 4, 1])
    inputs = [unit(4, 6).requires_grad_(), unit(5, 6, seed=1).requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda z, p: prototypical_contrastive(z, labels, p, temperature=0.3), inputs
    )


@pytest.mark.parametrize("near", [0.0, 0.9, 1.0])
def test_its_own_prototype_is_pulled_as_hard_however_near_it_is(near):
    z, prototypes, labels = unit(1, 6), unit(5, 6, seed=1), torch.tensor([2])
    prototypes[2] = F.normalize((1 - near) * prototypes[2] + near * z[0], dim=0)
    prototypes.requires_grad_()
    prototypical_contrastive(z, labels, prototypes, temperature=0.5).sum().backward()
    torch.testing.assert_close(prototypes.grad[2], -z[0] / 0.5)


def test_permuted_classes_give_the_same_losses():
    z, prototypes, labels = unit(7, 6), unit(5, 6, seed=1), torch.tensor([0, 4, 4, 1, 0, 2, 2])
    order = torch.tensor([3, 0, 4, 1, 2])
    found = prototypical_contrastive(
        z, torch.argsort(order)[labels], prototypes[order], temperature=1
    )
    torch.testing.assert_close(
        found, prototypical_contrastive(z, labels, prototypes, temperature=1)
    )


@pytest.mark.parametrize("labels", [[2], [3, 3, 3], [0, 4]])
def test_is_finite_for_any_batch(labels):
    z = unit(len(labels), 6).float().requires_grad_()
    prototypes = unit(5, 6, seed=1).float().requires_grad_()
    losses = prototypical_contrastive(z, torch.tensor(labels), prototypes, temperature=1e-3)
    assert losses.shape == (len(labels),)
    grads = torch.autograd.grad(losses.sum(), [z, prototypes])
    assert losses.isfinite().all()
    assert all(grad.isfinite().all() for grad in grads)


def test_the_module_learns_directions_of_its_prototypes():
    torch.manual_seed(0)
    loss = PrototypicalContrastiveLoss(5, 6, temperature=0.1).double()
    rows = labelled_rows(unit(4, 6), torch.tensor([0, 4, 4, 1]))
    prototypes = loss.prototypes.detach()
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(5).double(), rtol=1e-6, atol=0)
    found = loss(rows, None)
    wanted = oracle(rows.anchors, rows.labels, F.normalize(prototypes, dim=1), 0.1)
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        loss.prototypes.mul_(torch.tensor([[0.1], [1], [2], [3], [9]]))
    torch.testing.assert_close(loss(rows, None), found)
    (grad,) = torch.autograd.grad(loss(rows, None).sum(), loss.prototypes)
    assert (grad.abs().sum(dim=1) > 0).all()
    torch.testing.assert_close((grad * loss.prototypes).sum(dim=1), torch.zeros(5).double())


def test_importance_weights_give_the_expectation_of_class_balanced_sampling():
    counts = torch.tensor([12, 5, 2, 1])
    labels = torch.repeat_interleave(torch.arange(4), counts)
    logits = 3 * unit(20, 4)
    weighted = balanced_cross_entropy(counts)(logits, labels)
    # Uniform: each of the 20 images is as likely. Class-balanced: 1/4 a class, 1/n an image of it.
    balanced = 0.0
    for j in range(4):
        of_class = F.cross_entropy(logits, labels, reduction="none")[labels == j]
        balanced += float(of_class.mean()) / 4
    assert weighted.shape == (20,)
    assert float(weighted.mean()) == pytest.approx(balanced, rel=1e-6)


def test_uniform_counts_weigh_nothing_and_a_class_without_images_is_refused():
    def weights(*counts):
        return balanced_cross_entropy(torch.tensor(counts)).weights

    assert torch.equal(weights(7, 7, 7), torch.ones(3))
    torch.testing.assert_close(weights(30, 6), weights(5, 1))
    with pytest.raises(ConfigError, match="no training image of class 1"):
        weights(3, 0)
