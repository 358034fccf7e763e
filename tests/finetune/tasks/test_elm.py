from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import Batch
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.finetune.tasks.elm import ElmOptions
from ssl_lt.losses.embedding_margin import embedding_margin
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.losses.logit_adjustment import class_log_prior, logit_adjusted_cross_entropy
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on_two
from tests.finetune import toy


def task(**options):
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    parts = toy.modules(backbone=backbone, classifier=nn.Linear(8, toy.NUM_CLASSES))
    return LOSSES["elm"].task(parts, ElmOptions(**options)).double()


def test_the_loss_is_the_sum_of_its_equations():
    options = {"tau": 0.7, "embedding_tau": 1.4, "embedding_weight": 0.3, "temperature": 0.2}
    made, batch = task(**options), toy.batch(0)
    made.on_epoch_start(toy.epoch(2))
    out = made(batch)
    keys = sample_keys(batch.index, seed=3, epoch=2, view=0)
    features = made.backbone(toy.Light(0.6)(batch.images, keys)).float()
    logits = made.classifier(features.double()).float()
    prior = class_log_prior(toy.COUNTS)
    classification = logit_adjusted_cross_entropy(logits, batch.labels, prior, tau=0.7).mean()
    rows = labelled_rows(F.normalize(features, dim=1), batch.labels)
    embedding = embedding_margin(rows, 1.4 * prior, temperature=0.2).mean()
    close = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}  # taken in float32
    torch.testing.assert_close(out.loss, classification + 0.3 * embedding, **close)
    torch.testing.assert_close(out.terms["classification"], classification, **close)
    torch.testing.assert_close(out.terms["embedding"], embedding, **close)
    assert embedding > 0
    assert not any(term.requires_grad for term in out.terms.values())


def test_without_weight_it_is_logit_adjustment():
    out = task(embedding_weight=0.0)(toy.batch(0))
    torch.testing.assert_close(out.loss, out.terms["classification"])


def test_the_regulariser_reaches_the_backbone_and_not_the_classifier():
    one, other = task(embedding_weight=0.0), task(embedding_weight=2.0)
    for made in (one, other):
        made(toy.batch(0)).loss.backward()
    torch.testing.assert_close(one.classifier.weight.grad, other.classifier.weight.grad)
    assert not torch.allclose(one.backbone[0].weight.grad, other.backbone[0].weight.grad)


def test_learns_both():
    made = task()
    sgd = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    found = []
    for _ in range(40):
        out = made(toy.batch(0))
        sgd.zero_grad()
        out.loss.backward()
        sgd.step()
        found.append(out.terms)
    for name in ("classification", "embedding"):
        assert found[-1][name] < 0.9 * found[0][name]


@pytest.mark.parametrize("rows", [[0], [0, 1]])
def test_small_batches_are_finite(rows):
    whole = toy.batch(0)
    made = task().eval()
    out = made(Batch(whole.images[rows], whole.labels[rows], whole.index[rows]))
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in made.parameters())


def test_what_follows_from_the_data_is_not_saved():
    made = task()
    assert {name.split(".")[0] for name in made.state_dict()} == {"backbone", "classifier"}
    assert made.memories() == ()


@pytest.mark.parametrize(
    "wrong",
    [{"tau": -1.0}, {"embedding_tau": -1.0}, {"embedding_weight": -0.1}, {"temperature": 0.0}],
)
def test_bad_input(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: "):
        ElmOptions(**wrong)


def _steps(made, *, forward=None, share=lambda batch: batch):
    sgd = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for number in range(3):
        sgd.zero_grad()
        loss = (forward or made)(share(toy.batch(number))).loss
        loss.backward()
        sgd.step()
        losses.append(loss.detach())
    return torch.stack(losses), {n: p.detach().clone() for n, p in made.named_parameters()}


def _rank(rank):
    made = synchronised(task())
    wrapped = DistributedDataParallel(made, broadcast_buffers=False)
    return _steps(made, forward=wrapped, share=lambda batch: toy.half(batch, rank))


@pytest.mark.distributed
def test_two_processes_equal_one():
    (first, weights), (second, others) = run_on_two(_rank)
    losses, alone = _steps(task())
    torch.testing.assert_close((first + second) / 2, losses, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(weights, others, rtol=0, atol=0)
    torch.testing.assert_close(weights, alone, rtol=1e-5, atol=2e-6)
