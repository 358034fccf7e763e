"""The step of DRO-LT."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import Batch
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.losses.distributional_robustness import distributional_robustness
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.losses.logit_adjustment import class_log_prior
from ssl_lt.models.batch_norm import synchronised
from tests.distributed.pool import run_on_two
from tests.finetune import toy, toy_set, toy_steps

CLOSE = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}  # losses are taken in float32


def robust(**options):
    return toy_set.task("dro_lt", **{"robust_after": 0.0, **options})


def centroids(task):
    (memory,) = task.memories()
    return memory.tables["centroids"]


@pytest.mark.parametrize("weights", ["none", "frequency"])
def test_the_loss_is_the_sum_of_its_equations(weights):
    task = robust(
        tau=0.7,
        robust_weight=0.5,
        robust_temperature=2.0,
        radius=0.3,
        class_weights=weights,
        robust_class_weights=weights,
    )
    (batch, *_) = toy_set.batches(0)
    task.on_epoch_start(toy.epoch(1))
    out = task(batch)

    counts, labels = toy_set.Loader().counts, batch.labels
    frequency = counts / counts.max() if weights == "frequency" else None
    keys = sample_keys(batch.index, seed=3, epoch=1, view=0)
    features = task.backbone(toy.Light(0.6)(batch.images, keys)).float()
    logits = task.classifier(features.double()).float() + 0.7 * class_log_prior(counts)
    ce = F.cross_entropy(logits, labels, weight=frequency)
    robustness = distributional_robustness(
        labelled_rows(features, labels),
        centroids(task),
        torch.full((4,), 0.3),
        temperature=2.0,
        class_weights=frequency,
    ).mean()
    torch.testing.assert_close(out.loss, ce + 0.5 * robustness, **CLOSE)
    torch.testing.assert_close(out.terms["classification"], ce.detach(), **CLOSE)
    torch.testing.assert_close(out.terms["robustness"], robustness.detach(), **CLOSE)
    assert not any(term.requires_grad for term in out.terms.values())


def test_centroids_are_means_of_the_set_and_taken_once_an_epoch():
    task, loader = robust(), toy_set.Loader()
    task.train()
    task.on_epoch_start(toy.epoch(0))
    assert all(part.training for part in task.modules())
    found = centroids(task).clone()
    task.eval()
    with torch.no_grad():
        features = task.backbone(loader.images.double() / 255)
    task.train()
    for number in range(4):
        want = features[loader.labels == number].mean(dim=0)
        torch.testing.assert_close(found[number], want, **CLOSE)
    toy_steps.sgd(task).step()
    with torch.no_grad():
        task.backbone[0].weight.mul_(2)
    task.on_epoch_start(toy.epoch(0))  # as upon resume within the epoch
    assert torch.equal(centroids(task), found)
    task.on_epoch_start(toy.epoch(1))
    assert not torch.allclose(centroids(task), found)


def test_before_its_epoch_it_is_logit_adjustment():
    task = robust(robust_after=0.5)
    (batch, *_) = toy_set.batches(0)
    found = []
    for number in range(4):
        task.on_epoch_start(toy.epoch(number, total=4))
        task.zero_grad()
        out = task(batch)
        out.loss.backward()
        found.append(bool(out.terms["robustness"] != 0))
        # There for DDP, even where it is 0.
        assert bool(task.radii.grad.any()) == (number >= 2)
        assert bool(centroids(task).any()) == (number >= 2)
    assert found == [False, False, True, True]


def test_a_step_reaches_every_parameter():
    task = robust()
    task.on_epoch_start(toy.epoch(0))
    task(toy_set.batches(0)[0]).loss.backward()
    assert [n for n, p in task.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_learns():
    task = robust()
    task.on_epoch_start(toy.epoch(0))
    optimizer, losses = toy_steps.sgd(task), []
    for _ in range(20):
        out = task(toy_set.batches(0)[0])
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("rows", [[0], [3, 5, 9], [60, 61]])
def test_is_finite_for_a_few_rows_of_one_class(rows):
    task, loader = robust(class_weights="frequency"), toy_set.Loader()
    task.on_epoch_start(toy.epoch(0))
    index = torch.tensor(rows)
    loss = task(Batch(loader.images[index], loader.labels[index], index)).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in task.parameters())


@pytest.mark.parametrize("after", [2, 4, 6, 9])
def test_resumed_anywhere_it_is_the_same_bit_for_bit(tmp_path, after):
    whole, broken = create_run_folder(tmp_path / "whole"), create_run_folder(tmp_path / "broken")
    wanted = toy_set.run(whole, robust())
    with pytest.raises(toy_set.DiedError):
        toy_set.run(broken, toy_set.dying(robust(), after=after))
    found = toy_set.run(broken, robust())
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()


def _rank_run(rank):
    task = synchronised(robust(robust_after=0.3, class_weights="frequency"))
    wrapped = DistributedDataParallel(task, broadcast_buffers=False)
    losses, grads = toy_set.epochs_on(
        task, forward=wrapped, share=lambda b: toy.half(b, rank), numbers=(0, 1, 2)
    )
    return losses, grads, toy_steps.state(task)


@pytest.mark.distributed
def test_two_processes_equal_one():
    (first, *of_first), (second, *of_second) = run_on_two(_rank_run)
    task = robust(robust_after=0.3, class_weights="frequency")
    losses, grads = toy_set.epochs_on(task, numbers=(0, 1, 2))
    torch.testing.assert_close((first + second) / 2, losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(of_first, of_second, rtol=0, atol=0)
    # Features are compared in float32, so gradients carry its rounding.
    torch.testing.assert_close(of_first, [grads, toy_steps.state(task)], rtol=1e-4, atol=1e-5)
