"""The steps of Hybrid-SC and Hybrid-PSC."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.random import sample_keys
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.finetune.tasks.hybrid import HybridOptions, contrast_share
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.losses.prototypical_contrastive import prototypical_contrastive
from ssl_lt.losses.supervised_contrastive import supervised_contrastive
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on_two
from tests.engine.tiny import TinyLoader, plan
from tests.finetune import toy, toy_steps

NAMES = ["hybrid_sc", "hybrid_psc"]
CLOSE = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}  # losses are taken in float32


def test_the_share_falls_as_a_parabola():
    found = [contrast_share(toy.epoch(number, total=4)) for number in range(4)]
    assert found == pytest.approx([1, 1 - 1 / 16, 1 - 4 / 16, 1 - 9 / 16])


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_sum_of_its_equations(name, number):
    task, batch = toy_steps.task(name, temperature=0.2), toy.batch(0)
    task.on_epoch_start(toy.epoch(number, total=3))
    out = task(batch)

    views = []
    for view, light in enumerate((0.6, 0.3, 0.3)):
        keys = sample_keys(batch.index, seed=3, epoch=number, view=view)
        views.append(toy.Light(light)(batch.images, keys))
    features, labels = task.backbone(torch.cat(views)), batch.labels
    losses = F.cross_entropy(task.classifier(features[:8]), labels, reduction="none")
    ce = sum(24 / (5 * toy.COUNTS[y]) * loss for y, loss in zip(labels, losses, strict=True)) / 8
    z = F.normalize(task.head(features[8:]).float(), dim=1)
    if name == "hybrid_sc":
        contrast = supervised_contrastive(labelled_rows(z, labels.repeat(2)), temperature=0.2)
    else:
        prototypes = F.normalize(task.contrast_loss.prototypes, dim=1).float()
        contrast = prototypical_contrastive(z, labels.repeat(2), prototypes, temperature=0.2)
    a = 1 - (number / 3) ** 2
    torch.testing.assert_close(out.loss, a * contrast.mean() + (1 - a) * ce, **CLOSE)
    torch.testing.assert_close(out.terms["classification"], ce.detach(), **CLOSE)
    torch.testing.assert_close(out.terms["contrast"], contrast.mean().detach(), **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_reaches_every_parameter(name):
    task = toy_steps.task(name)
    task.on_epoch_start(toy.epoch(1))
    task(toy.batch(0)).loss.backward()
    dead = [n for n, p in task.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(dead) <= {"head.0.bias"}  # batch norm takes it off again


@pytest.mark.parametrize("name", NAMES)
def test_the_first_epoch_does_not_move_the_classifier(name):
    task = toy_steps.task(name)
    task.on_epoch_start(toy.epoch(0))
    task(toy.batch(0)).loss.backward()
    assert not task.classifier.weight.grad.any()
    assert task.backbone[0].weight.grad.any()


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_learns(name, number):
    task = toy_steps.task(name)
    task.on_epoch_start(toy.epoch(number))
    losses, _ = toy_steps.learn(task, steps=20, same=True)
    assert losses[-1] < losses[0] - 0.2 * losses[0].abs()


@pytest.mark.parametrize("name", NAMES)
def test_is_finite_where_one_class_is_alone(name):
    task, batch = toy_steps.task(name), toy.batch(0)
    task.on_epoch_start(toy.epoch(1))
    batch.labels.fill_(4)
    loss = task(batch).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in task.parameters())


class DiedError(Exception):
    pass


def run(folder, task):
    fit(
        task,
        TinyLoader(),
        plan(checkpoint_every=1, epochs=3),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=lambda task, epoch: {},
    )
    return toy_steps.state(task)


@pytest.mark.parametrize("name", NAMES)
def test_resumed_inside_an_epoch_it_is_the_same_bit_for_bit(tmp_path, name):
    whole, broken = create_run_folder(tmp_path / "whole"), create_run_folder(tmp_path / "broken")
    wanted = run(whole, toy_steps.task(name))
    dies, steps = toy_steps.task(name), []

    def die(module, args):
        steps.append(1)
        if len(steps) > 6:
            raise DiedError

    dies.register_forward_pre_hook(die)
    with pytest.raises(DiedError):
        run(broken, dies)
    found = run(broken, toy_steps.task(name))
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ({"temperature": 0.0}, "--temperature: 0.0 is not a positive"),
        ({"hidden_dim": 0}, "--hidden-dim: must be"),
        ({"output_dim": 0}, "--output-dim: must be"),
    ],
)
def test_options_name_their_flag(value, flag):
    with pytest.raises(ConfigError, match=flag):
        HybridOptions(**value)


def _rank_runs(rank):
    out = {}
    for name in NAMES:
        task = synchronised(toy_steps.task(name))
        task.on_epoch_start(toy.epoch(1))
        wrapped = DistributedDataParallel(task, broadcast_buffers=False)
        losses, grads = toy_steps.learn(
            task, steps=3, forward=wrapped, share=lambda b: toy.half(b, rank)
        )
        out[name] = losses, grads, toy_steps.state(task)
    return out


@pytest.fixture(scope="module")
def ranks():
    return run_on_two(_rank_runs)


@pytest.mark.distributed
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(ranks, name):
    task = toy_steps.task(name)
    task.on_epoch_start(toy.epoch(1))
    losses, grads = toy_steps.learn(task, steps=3)
    (first, *of_first), (second, *of_second) = (r[name] for r in ranks)
    torch.testing.assert_close((first + second) / 2, losses, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(of_first, of_second, rtol=0, atol=0)
    # Projections are compared in float32, so gradients carry its rounding.
    torch.testing.assert_close(of_first, [grads, toy_steps.state(task)], rtol=1e-5, atol=2e-6)
