"""The steps of PaCo and GPaCo."""

from __future__ import annotations

from collections import deque
from unittest.mock import patch

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.random import sample_keys
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.engine.optim import OptimOptions, parameter_groups
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on_two
from tests.engine.tiny import TinyLoader, plan
from tests.finetune import toy, toy_steps
from tests.toolbox import TINY, newest_weights, succeed

NAMES = ["paco", "gpaco"]
CLOSE = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}  # losses are taken in float32
# Not a multiple of the batches' 8 rows, and less than three of them: the ring wraps.
FEW = {"queue_size": 21, "alpha": 0.3}


def make(name, **options):
    momentum = {"key_momentum": 0.9} if name == "paco" else {}
    return toy_steps.task(name, **{**FEW, **momentum, **options})


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_that_of_queries_keys_and_a_queue(name):
    task, queue = make(name), deque(maxlen=21)
    task.on_epoch_start(toy.epoch(0))
    optimizer = toy_steps.sgd(task)
    for number in range(5):
        batch = toy.batch(number)
        with torch.no_grad():
            keys = sample_keys(batch.index, seed=3, epoch=0, view=0)
            features = task.backbone(toy.Light(0.6)(batch.images, keys))
            q = F.normalize(task.head(features).float(), dim=1)
            new = [q]
        out = task(batch)
        if name == "paco":  # the key encoder has moved now, and will not before the next step
            keys = sample_keys(batch.index, seed=3, epoch=0, view=1)
            k = task.key_encoder(toy.Light(0.3)(batch.images, keys))
            new.append(F.normalize(k.float(), dim=1))
        old = list(queue)
        rows = LabelledRows(
            q,
            batch.labels,
            torch.cat([*new, *(key[None] for key, _ in old)]),
            torch.cat([*[batch.labels] * len(new), torch.tensor([y for _, y in old]).long()]),
            torch.arange(8),
        )
        want = task.loss(task.classifier(features).float(), rows).mean()
        torch.testing.assert_close(out.loss, want, **CLOSE)
        assert set(out.terms) == {"train_accuracy"}
        queue.extend(zip(new[-1], batch.labels.tolist(), strict=True))
        found = task.queue.keys[(task.queue.labels[:, None] >= 0).flatten()]
        wanted = torch.stack([key for key, _ in queue])
        torch.testing.assert_close(found.sum(dim=0), wanted.sum(dim=0), **CLOSE)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(queue)))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_reaches_every_parameter_that_learns(name):
    task = make(name)
    task(toy.batch(0)).loss.backward()
    for n, p in task.named_parameters():
        if n.startswith("key_encoder."):
            assert p.grad is None, n
            assert not p.requires_grad, n
        elif n != "head.0.bias":  # batch norm takes it off again
            assert p.grad.abs().max() > 0, n


def test_the_optimiser_does_not_know_the_key_encoder():
    task = make("paco")
    known = {id(p) for g in parameter_groups(task, OptimOptions()) for p in g["params"]}
    assert known == {
        id(p) for m in (task.backbone, task.head, task.classifier) for p in m.parameters()
    }


def test_the_key_encoder_moves_by_the_average_alone():
    task = make("paco")
    optimizer = toy_steps.sgd(task)
    wanted = [p.clone() for p in task.key_encoder.parameters()]
    for number in range(4):
        followed = [p.detach().clone() for m in (task.backbone, task.head) for p in m.parameters()]
        optimizer.zero_grad()
        task(toy.batch(number)).loss.backward()
        optimizer.step()
        wanted = [0.9 * w + 0.1 * v for w, v in zip(wanted, followed, strict=True)]
        for found, want in zip(task.key_encoder.parameters(), wanted, strict=True):
            torch.testing.assert_close(found.detach(), want, rtol=1e-12, atol=1e-14)
    query = [p for m in (task.backbone, task.head) for p in m.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(wanted, query, strict=True))


def test_weights_that_are_loaded_before_training_reach_the_key_encoder_once():
    task = make("paco")
    with torch.no_grad():
        for p in task.backbone.parameters():
            p.add_(torch.randn_like(p))
    task.on_epoch_start(toy.epoch(0))
    loaded = task.backbone.state_dict()
    assert all(
        torch.equal(v, loaded[k]) for k, v in task.key_encoder.copies[0].state_dict().items()
    )
    toy_steps.learn(task, steps=2)
    before = toy_steps.state(task)
    task.on_epoch_start(toy.epoch(0))  # as upon a resume inside the epoch
    assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())


@pytest.mark.parametrize("kept", [{"keeps_statistics": True}, {"tune": "head"}])
def test_a_backbone_that_keeps_its_statistics_has_a_copy_that_does(kept):
    chosen = LOSSES["paco"].options(hidden_dim=7, output_dim=6)
    task = LOSSES["paco"].task(toy_steps.parts(**kept), chosen).double().train()
    task.on_epoch_start(toy.epoch(0))
    batch, query = toy.batch(0), nn.Sequential(task.backbone, task.head)
    # As yet its weights are the query's.
    torch.testing.assert_close(
        task.key_encoder(batch.images.double()), query(batch.images.double())
    )
    before = task.key_encoder.copies[0][1].running_mean.clone()
    task(batch)
    assert task.key_encoder.copies[0][1].running_mean.equal(before)
    assert task.key_encoder.copies[1].training


def test_gpaco_has_neither_a_second_encoder_nor_a_second_view():
    task, seen = make("gpaco"), []
    assert not any("key_encoder" in key for key in task.state_dict())
    task.view_of = lambda *a, number, view_of=task.view_of: (
        seen.append(number) or view_of(*a, number=number)
    )
    task(toy.batch(0))
    assert seen == [0]


@pytest.mark.parametrize("name", NAMES)
def test_learns(name):
    losses, _ = toy_steps.learn(make(name), steps=20, same=True)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_smaller_than_the_batch_and_one_class_alone(name):
    task, batch = make(name, queue_size=3), toy.batch(0)
    batch.labels.fill_(2)
    optimizer = toy_steps.sgd(task)
    for _ in range(3):
        loss = task(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    assert all(value.isfinite().all() for value in toy_steps.state(task).values())


class DiedError(Exception):
    pass


def run(folder, task):
    fit(
        task,
        TinyLoader(),
        plan(checkpoint_every=1, epochs=2),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=lambda task, epoch: {},
    )
    return task


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("last_step", [1, 6])
def test_resumed_inside_an_epoch_it_is_the_same_bit_for_bit(tmp_path, name, last_step):
    whole, broken = create_run_folder(tmp_path / "whole"), create_run_folder(tmp_path / "broken")
    expected = run(whole, make(name))
    dies, steps = make(name), []

    def die(module, args):
        steps.append(1)
        if len(steps) > last_step:
            raise DiedError

    dies.register_forward_pre_hook(die)
    with pytest.raises(DiedError):
        run(broken, dies)
    found = toy_steps.state(run(broken, make(name)))
    wanted = toy_steps.state(expected)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key
    assert int(wanted["queue.next_slot"]) == 8 * 16 % 21
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()


@pytest.mark.slow
def test_what_is_exported_is_the_query_encoder(empty):
    flags = ["--init-from", "scratch", "--imbalance-factor", "100", "--eval-every", "0"]
    flags += ["--queue-size", "100", "--output-dim", "8", "--run-dir", "run"]
    succeed("finetune", *TINY, *flags, "--loss", "paco")
    model = newest_weights(empty / "run")
    (exported,) = (empty / "run/exported").glob("*.safetensors")
    found = load_file(exported)
    assert found
    for key, value in found.items():
        assert torch.equal(value, model[f"backbone.{key}"]), key
    weight = next(key for key in found if key.endswith("conv1.weight"))
    assert not torch.equal(model[f"key_encoder.copies.0.{weight}"], found[weight])
    succeed("evaluate", "--run", "run", "--probe-on", "long-tail", "--map-images", "0")


def _in_double():
    """float32's rounding, times 20 in the similarities, would hide small differences."""
    return patch.object(torch.Tensor, "float", torch.Tensor.double)


@_in_double()
def _rank_runs(rank):
    out = {}
    for name in NAMES:
        task = synchronised(make(name))
        wrapped = DistributedDataParallel(task, broadcast_buffers=False)
        losses, grads = toy_steps.learn(
            task, steps=4, forward=wrapped, share=lambda b: toy.half(b, rank)
        )
        out[name] = losses, grads, toy_steps.state(task)
    return out


@pytest.fixture(scope="module")
def ranks():
    return run_on_two(_rank_runs)


@pytest.mark.distributed
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(ranks, name):
    task = make(name)
    with _in_double():
        losses, grads = toy_steps.learn(task, steps=4)
    (first, *of_first), (second, *of_second) = (r[name] for r in ranks)
    torch.testing.assert_close((first + second) / 2, losses, rtol=1e-10, atol=0)
    torch.testing.assert_close(of_first, of_second, rtol=0, atol=0)
    # Keys are kept in float32.
    torch.testing.assert_close(of_first, [grads, toy_steps.state(task)], rtol=1e-9, atol=1e-10)
