"""SAM and ImbSAM against plain loops, and what a step with two passes leaves behind."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import NumericError
from ssl_lt.core.random import permutation
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, StepOutput
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.sharpness import uphill
from ssl_lt.engine.update import Update
from ssl_lt.models.batch_norm import synchronised
from ssl_lt.models.momentum_encoder import MomentumEncoder
from tests.distributed.pool import NUM_RANKS, run_on_two
from tests.engine.tiny import TinyLoader, TinyTask, plan

RHO, LR = 0.5, 0.1
TAIL = torch.tensor([False, False, True, True])


class Linear(TrainTask):
    """Softmax regression of the means of the channels, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(3, 4, bias=False).double()

    def forward(self, batch):
        x = batch.images.double().mean((2, 3)) / 255
        losses = F.cross_entropy(self.backbone(x), batch.labels, reduction="none")
        return StepOutput(losses.mean(), {}, losses)


class Normed(Linear):
    """A batch norm in front, so that the samples of a batch know of each other."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3).double()

    def forward(self, batch):
        x = self.norm(batch.images.double().mean((2, 3)) / 255)
        losses = F.cross_entropy(self.backbone(x), batch.labels, reduction="none")
        return StepOutput(losses.mean(), {}, losses)


def images(number=16):
    loader = TinyLoader()
    return Batch(loader.images[:number], loader.labels[:number], torch.arange(number))


def part(batch, rows):
    return Batch(batch.images[rows], batch.labels[rows], batch.index[rows])


def update(task, batches, *, tail=None, model=None, steps=1, **optim):
    """Steps of an engine's update; what they log."""
    settings = replace(
        plan(accumulate_steps=len(batches) // steps),
        optim=OptimOptions(lr=LR, **{"weight_decay": 0.0, "momentum": 0.0, "sam": RHO, **optim}),
        tail_classes=tail,
    )
    accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        backward=lambda loss: loss.backward(),
        scaler=None,
        no_sync=lambda model: getattr(model, "no_sync", nullcontext)(),
    )
    move = Update(task, model or task, settings, accelerator)
    stream = iter(batches)
    task.train()
    return [move(stream, step=number, lr=LR) for number in range(steps)]


def slow_gradient(w, batch, classes):
    """Of (1 / B) sum of -log softmax(w x)_y over the samples of some classes."""
    xs = (batch.images.double().mean((2, 3)) / 255).tolist()
    gradient = [[0.0] * 3 for _ in range(4)]
    for x, y in zip(xs, batch.labels.tolist(), strict=True):
        if y not in classes:
            continue
        scores = [math.exp(sum(w[c][d] * x[d] for d in range(3))) for c in range(4)]
        for c in range(4):
            for d in range(3):
                error = scores[c] / sum(scores) - (c == y)
                gradient[c][d] += error * x[d] / len(xs)
    return gradient


def slow_step(w, batch, *, tail):
    """`w - lr (g_head(w) + g_tail(w + rho g_tail / |g_tail|))`; without a head that is SAM."""
    head = [c for c in range(4) if c not in tail]
    plain, uphill_of = (slow_gradient(w, batch, classes) for classes in (head, tail))
    norm = math.sqrt(sum(g * g for row in uphill_of for g in row))
    higher = [[w[c][d] + RHO * uphill_of[c][d] / norm for d in range(3)] for c in range(4)]
    sharp = slow_gradient(higher, batch, tail)
    return [[w[c][d] - LR * (plain[c][d] + sharp[c][d]) for d in range(3)] for c in range(4)]


@pytest.mark.parametrize(("tail", "classes"), [(None, [0, 1, 2, 3]), (TAIL, [2, 3])])
def test_three_steps_are_those_of_plain_loops(tail, classes):
    task, batch = Linear(), images()
    w = task.backbone.weight.tolist()
    update(task, [batch] * 3, tail=tail, steps=3)
    for _ in range(3):
        w = slow_step(w, batch, tail=classes)
    torch.testing.assert_close(task.backbone.weight.detach(), torch.tensor(w).double())
    moved = Linear()
    update(moved, [batch] * 3, steps=3, sam=0.0)
    assert not torch.allclose(moved.backbone.weight, task.backbone.weight, atol=1e-4)


def test_all_classes_in_the_tail_are_sam_and_none_is_plain_descent():
    whole, everything, nothing, plain = Normed(), Normed(), Normed(), Normed()
    update(whole, [images()])
    update(everything, [images()], tail=torch.ones(4, dtype=torch.bool))
    update(nothing, [images()], tail=torch.zeros(4, dtype=torch.bool))
    update(plain, [images()], sam=0.0)
    for one, other in ((whole, everything), (nothing, plain)):
        torch.testing.assert_close(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("tail", [None, TAIL])
def test_accumulated_batches_are_one_large_batch(tail):
    one, two, batch = Linear(), Linear(), images()
    update(one, [batch], tail=tail)
    update(two, [part(batch, slice(0, 8)), part(batch, slice(8, 16))], tail=tail)
    torch.testing.assert_close(two.backbone.weight, one.backbone.weight, rtol=1e-12, atol=0)


def test_clipping_is_of_the_gradient_that_moves():
    batch, before = images(), Linear().backbone.weight
    free, clipped = Linear(), Linear()
    (logged,) = update(free, [batch])
    limit = 0.25 * float(logged["grad_norm"])
    update(clipped, [batch], clip_grad_norm=limit)
    moved = (clipped.backbone.weight - before).detach()
    torch.testing.assert_close(moved.norm().item(), LR * limit, rtol=1e-4, atol=0)
    torch.testing.assert_close(moved, 0.25 * (free.backbone.weight - before), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_any_optimiser_takes_the_gradient(optimizer):
    task, plain = Linear(), Linear()
    update(task, [images()] * 3, steps=3, optimizer=optimizer)
    update(plain, [images()] * 3, steps=3, optimizer=optimizer, sam=0.0)
    assert not torch.equal(task.backbone.weight, plain.backbone.weight)


class Follows(TinyTask):
    """Has a slow copy of a weight, which moves in the forward pass, and a replaced memory."""

    def __init__(self):
        super().__init__()
        self.slow = nn.Parameter(torch.zeros(4, 32), requires_grad=False)
        self.frozen = nn.BatchNorm2d(3).eval()
        self.passes = []

    def forward(self, batch):
        with torch.no_grad():
            self.slow.lerp_(self.out.weight, 0.5)
        self.passes.append(self.slow.clone())
        self.memory.tables["count"] = self.memory.tables["count"].clone()
        return super().forward(batch)


def test_a_step_leaves_what_its_first_pass_left():
    task, plain = Follows(), Follows()
    (logged,) = update(task, [images()])
    (expected,) = update(plain, [images()], sam=0.0)
    assert len(task.passes) == 2
    assert task.slow.equal(plain.slow)
    assert task.passes[0].equal(plain.passes[0])
    assert not task.passes[1].equal(task.passes[0])  # follows the weights uphill, and goes back
    assert task.memory.tables["count"].equal(plain.memory.tables["count"])
    buffers = dict(plain.named_buffers())
    assert all(buffers[name].equal(buffer) for name, buffer in task.named_buffers())
    assert logged["loss"].equal(expected["loss"])
    assert logged["largest"].equal(expected["largest"])


class Keyed(TinyTask):
    """Has a momentum encoder, which is in evaluation mode and moves in the forward pass."""

    def __init__(self):
        super().__init__()
        self.key = MomentumEncoder(self.out, momentum=0.5)

    def train(self, mode=True):
        super().train(mode)
        self.key.copies.eval()
        return self

    def forward(self, batch):
        self.key.follow(self.out)
        return super().forward(batch)


def test_a_momentum_encoder_in_evaluation_mode_moves_once_a_step():
    task, plain = Keyed(), Keyed()
    update(task, [images()] * 2, steps=2)
    first = task.key.copies[0].weight.clone()
    assert not first.equal(TinyTask().out.weight)
    update(plain, [images()], steps=1)
    follower = plain.key.copies[0].weight
    wanted = 0.5 * follower + 0.5 * plain.out.weight
    torch.testing.assert_close(first, wanted)


def test_the_second_pass_has_the_same_dropout():
    task, seen = TinyTask(), []
    task.dropout.register_forward_hook(lambda layer, inputs, out: seen.append(out == 0))
    update(task, [images()], sam=1e-30)
    assert len(seen) == 2
    assert seen[0].equal(seen[1])


def test_a_gradient_that_is_not_finite_uphill_moves_nothing():
    task = Linear()
    before = task.backbone.weight.detach().clone()
    with pytest.raises(NumericError, match=r"step 1: .*backbone\.weight is not finite"):
        update(task, [images()], sam=float("1e308"))
    assert task.backbone.weight.equal(before)


def test_the_weights_are_back_bit_for_bit():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(4))]
    gradients = [torch.randn(5, 3), torch.randn(4)]
    kept = [weight.detach().clone() for weight in weights]
    with uphill(weights, gradients, rho=0.3):
        moved = torch.cat([(w - k).flatten() for w, k in zip(weights, kept, strict=True)])
        assert moved.norm().item() == pytest.approx(0.3, rel=1e-5)
    assert all(w.equal(k) for w, k in zip(weights, kept, strict=True))
    with uphill(weights, [torch.zeros(5, 3), torch.zeros(4)], rho=0.3):
        assert all(w.equal(k) for w, k in zip(weights, kept, strict=True))


def train(task, *, tail, rows=slice(None), model=None):
    whole = [part(images(64), permutation(64, seed=0, epoch=n)[:16]) for n in range(4)]
    update(task, [part(b, rows) for b in whole], tail=tail, model=model, steps=2)
    return dict(task.state_dict())


def _on_this_rank(rank):
    found = []
    for tail in (None, TAIL):
        task = synchronised(Normed())
        model = DistributedDataParallel(task, broadcast_buffers=False)
        share = 16 // NUM_RANKS
        found.append(
            train(task, tail=tail, rows=slice(rank * share, (rank + 1) * share), model=model)
        )
    return found


@pytest.mark.distributed
def test_two_processes_take_the_steps_of_one():
    ranks = run_on_two(_on_this_rank)
    for number, tail in enumerate((None, TAIL)):
        alone = train(Normed(), tail=tail)
        first, second = (found[number] for found in ranks)
        for name, tensor in alone.items():
            assert first[name].equal(second[name])
            torch.testing.assert_close(first[name], tensor, rtol=1e-9, atol=1e-12)
