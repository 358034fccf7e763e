from __future__ import annotations

import pytest
import torch

from ssl_lt.finetune.registry import LOSSES
from ssl_lt.losses.mixed_labels import MixedLabels
from tests.losses.logits import batch

COUNTS = torch.tensor([70, 20, 6, 2])
PLAIN = [name for name, entry in LOSSES.items() if entry.is_classification]
LAM = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0])


def labels():
    own = batch()[1]
    return MixedLabels(own, own.flip(0), LAM)


@pytest.mark.parametrize("name", PLAIN)
def test_a_loss_is_averaged_sample_by_sample(name):
    entry, mixed = LOSSES[name], labels()
    loss = entry.build(COUNTS, entry.options()).double()
    logits = batch()[0].detach()
    found = mixed.average(lambda y: loss(logits, y))
    for i, lam in enumerate(LAM.tolist()):
        row = logits[i : i + 1]
        own, partner = (loss(row, y[i : i + 1]).item() for y in (mixed.own, mixed.partner))
        assert found[i].item() == pytest.approx(lam * own + (1 - lam) * partner, rel=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_a_share_of_one_is_the_loss_itself(name):
    entry, (logits, own) = LOSSES[name], batch()
    loss = entry.build(COUNTS, entry.options()).double()
    wanted = loss(logits, own)
    for mixed in (MixedLabels(own), MixedLabels(own, own.flip(0), torch.ones(len(own)))):
        assert torch.equal(mixed.average(lambda y: loss(logits, y)), wanted)


def test_a_prediction_finds_the_share_of_its_class():
    own, partner = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0, 2, 3])
    mixed = MixedLabels(own, partner, torch.tensor([0.75, 0.75, 0.5, 0.25]))
    assert mixed.right(torch.tensor([0, 0, 2, 1])).tolist() == [0.75, 0.25, 1, 0]
    assert MixedLabels(own).right(torch.tensor([0, 0, 2, 1])).tolist() == [1, 0, 1, 0]


def test_shares_of_classes():
    own, partner = torch.tensor([0, 2]), torch.tensor([1, 2])
    mixed = MixedLabels(own, partner, torch.tensor([0.75, 0.25]))
    assert mixed.shares(4).tolist() == [[0.75, 0.25, 0, 0], [0, 0, 1, 0]]
    assert MixedLabels(own).shares(3).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_logit_adjustment_of_shares_is_the_average_of_its_losses():
    entry, mixed, logits = LOSSES["la"], labels(), batch()[0]
    loss = entry.build(COUNTS, entry.options()).double()
    of_shares = loss(logits, mixed.shares(4).double())
    torch.testing.assert_close(of_shares, mixed.average(lambda y: loss(logits, y)))
