"""What holds for every loss of logits that is registered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ssl_lt.core.task import EpochAware
from ssl_lt.core.types import Epoch
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.losses.cross_entropy import cross_entropy
from tests.losses.logits import batch

PLAIN = [name for name, entry in LOSSES.items() if entry.is_classification]
COUNTS = torch.tensor([70, 20, 6, 2])
EVEN = torch.full((4,), 25)


def build(name, counts=COUNTS, **options):
    entry = LOSSES[name]
    loss = entry.build(counts, replace(entry.options(), **options)).double()
    begin(loss, 0)
    return loss


def begin(loss, number):
    for part in loss.modules():
        if isinstance(part, EpochAware):
            part.on_epoch_start(Epoch(number, 3, 4))


def test_the_shelf_is_complete():
    assert set(PLAIN) >= {
        "ce",
        "la",
        "balanced_softmax",
        "pairwise",
        "vs",
        "focal",
        "cb_softmax",
        "cb_sigmoid",
        "cb_focal",
        "ldam",
        "ldam_hinge",
    }


@pytest.mark.parametrize("name", PLAIN)
def test_a_linear_model_learns(name):
    torch.manual_seed(0)
    loss, model = build(name), nn.Linear(6, 4).double()
    labels = torch.tensor([0] * 8 + [1] * 4 + [2] * 3 + [3])
    x = torch.randn(16, 6).double() + 2 * nn.functional.one_hot(labels, 6)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for number in range(3):
        begin(loss, number)
        for _ in range(10):
            losses = loss(model(x), labels)
            assert losses.shape == (16,)
            sgd.zero_grad()
            losses.mean().backward()
            sgd.step()
            found.append(losses.mean().item())
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("name", PLAIN)
def test_every_sample_reaches_its_own_logits_alone(name):
    logits, labels = batch()
    losses = build(name)(logits, labels)
    assert losses.isfinite().all()
    assert (losses > 0).all()
    for i in range(len(labels)):
        (grad,) = torch.autograd.grad(losses[i], logits, retain_graph=True)
        assert torch.equal(grad.abs().sum(dim=1) > 0, torch.arange(len(labels)) == i)
        # Down at the label, up elsewhere.
        assert grad[i, labels[i]] < 0
        assert grad[i].sum() - grad[i, labels[i]] > 0


@pytest.mark.parametrize("name", PLAIN)
def test_a_permuted_batch_has_permuted_losses(name):
    logits, labels = batch()
    order, loss = torch.tensor([3, 0, 6, 1, 5, 2, 4]), build(name)
    torch.testing.assert_close(loss(logits[order], labels[order]), loss(logits, labels)[order])


@pytest.mark.parametrize("name", PLAIN)
def test_permuted_classes_change_nothing(name):
    logits, labels = batch()
    order = torch.tensor([2, 0, 3, 1])
    moved = build(name, COUNTS[order])(logits[:, order], order.argsort()[labels])
    torch.testing.assert_close(moved, build(name)(logits, labels))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("labels", [[3], [0], [1, 1, 1], [3, 0, 3]])
@pytest.mark.parametrize("size", [0.0, 1.0, 80.0])
def test_any_batch_is_finite(name, labels, size):
    logits = (size * batch(len(labels))[0]).detach().float().requires_grad_()
    losses = build(name).float()(logits, torch.tensor(labels))
    assert losses.shape == (len(labels),)
    assert losses.dtype == torch.float32
    (grad,) = torch.autograd.grad(losses.mean(), logits)
    assert losses.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_that_follows_from_the_data_is_saved(name):
    assert build(name).state_dict() == {}


@pytest.mark.parametrize(
    ("name", "options", "base", "base_options"),
    [
        ("la", {"tau": 1.3}, "ce", {}),
        ("balanced_softmax", {}, "ce", {}),
        ("pairwise", {"member": "la"}, "ce", {}),
        ("pairwise", {"member": "balanced"}, "ce", {}),
        ("vs", {}, "ce", {}),
        ("focal", {"gamma": 0.0}, "ce", {}),
        ("cb_softmax", {}, "ce", {}),
        ("cb_focal", {"gamma": 0.0}, "cb_sigmoid", {"beta": 0.0}),
        ("ldam", {"max_margin": 0.0}, "ce", {}),
    ],
)
def test_uniform_counts_give_the_base(name, options, base, base_options):
    logits, labels = batch()
    wanted = build(base, EVEN, **base_options)(logits, labels)
    torch.testing.assert_close(build(name, EVEN, **options)(logits, labels), wanted)


def test_uniform_counts_give_ldam_one_margin_of_its_scale():
    logits, labels = batch()
    moved = logits - 30 * 0.5 * nn.functional.one_hot(labels, 4)
    wanted = cross_entropy(moved, labels)
    torch.testing.assert_close(build("ldam", EVEN)(logits, labels), wanted)


@pytest.mark.parametrize("name", PLAIN)
def test_a_factor_on_the_counts_is_seen_by_effective_numbers_alone(name):
    logits, labels = batch()
    one, other = build(name)(logits, labels), build(name, 7 * COUNTS)(logits, labels)
    if name.startswith("cb_"):
        assert not torch.allclose(one, other, rtol=1e-6)
    else:
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_an_initial_bias_is_minus_the_logarithm_of_the_odds(name):
    found = LOSSES[name].initial_bias
    assert (found is not None) == (name in ("cb_sigmoid", "cb_focal"))
    if found is not None:
        assert torch.tensor(found(5)).sigmoid().item() == pytest.approx(1 / 5)
