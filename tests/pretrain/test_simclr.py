import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.nt_xent import nt_xent
from ssl_lt.models.batch_norm import synchronised
from ssl_lt.pretrain.focal import Focal, FocalOptions
from ssl_lt.pretrain.sdclr import SDCLR, SDCLROptions
from ssl_lt.pretrain.simclr import SimCLR
from ssl_lt.pretrain.temperature import TemperatureOptions, temperature_at
from tests.distributed.pool import run_on_two
from tests.pretrain import toy

METHODS = {
    "simclr": (SimCLR, {}),
    "focal": (Focal, {"options": FocalOptions()}),
    "sdclr": (SDCLR, {"options": SDCLROptions(prune_ratio=0.6)}),
}


def build(name, parts=None):
    method, own = METHODS[name]
    return method(parts or toy.parts(), temperature=TemperatureOptions(), seed=4, **own)


def run(task, steps, *, share=lambda b: b, wrap=lambda t: t):
    """Two epochs of half the steps each; what a checkpoint would hold, and the losses."""
    forward = wrap(task)
    sgd = toy.optimizer(task)
    losses = []
    for number, part in enumerate((steps[: len(steps) // 2], steps[len(steps) // 2 :])):
        task.on_epoch_start(toy.epoch(number))
        losses += toy.train(task, part, sgd=sgd, forward=forward, share=share)
        task.on_epoch_end(toy.epoch(number))
    return {"losses": torch.tensor(losses), **toy.state(task)}


def test_both_views_go_through_the_network_in_one_batch():
    task = build("simclr")
    sizes = []
    task.backbone.register_forward_hook(lambda m, x, out: sizes.append(len(x[0])))
    out = task(toy.batch(0))
    assert sizes == [16]
    assert set(out.terms) == {"contrast"}
    torch.testing.assert_close(out.terms["contrast"], out.loss.detach())


def test_the_loss_is_nt_xent_of_the_projections():
    task = build("simclr")
    x1, x2 = torch.randn(2, 8, 3, 8, 8, dtype=torch.float64)
    z1, z2 = task.embed(x1, x2)
    both = task.projector(task.backbone(torch.cat([x1, x2])))
    torch.testing.assert_close(torch.cat([z1, z2]), both)
    want = nt_xent(both[:8], both[8:], temperature=0.2)
    torch.testing.assert_close(task.pair_losses(z1, z2), want)


SCHEDULE = TemperatureOptions(temperature=0.1, temperature_max=1.0, temperature_period=8)


@pytest.mark.parametrize("name", METHODS)
def test_a_scheduled_temperature_is_that_of_the_epoch_to_the_last_bit(name):
    method, own = METHODS[name]
    z1, z2 = torch.randn(2, 8, 5)
    scheduled = method(toy.parts(), temperature=SCHEDULE, seed=4, **own)
    assert "scheduled" not in scheduled.state_dict()
    for number in (3, 0, 5):
        scheduled.on_epoch_start(toy.epoch(number))
        now = TemperatureOptions(temperature_at(SCHEDULE, number))
        constant = method(toy.parts(), temperature=now, seed=4, **own)
        losses = scheduled.pair_losses(z1, z2)
        torch.testing.assert_close(losses, constant.pair_losses(z1, z2), rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [TemperatureOptions(), SCHEDULE])
def test_a_step_is_compiled_once_for_all_epochs(temperature):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    task = SimCLR(toy.parts(), temperature=temperature, seed=4)
    loss, (z1, z2) = torch.compile(task.pair_losses, backend=backend), torch.randn(2, 8, 5)
    for number in range(4):
        task.on_epoch_start(toy.epoch(number))
        loss(z1, z2)
    assert len(compiled) == 1


@pytest.mark.parametrize("name", METHODS)
def test_a_step_reaches_every_parameter(name):
    task = build(name)
    task.on_epoch_start(toy.epoch(0))
    task(toy.batch(0)).loss.backward()
    dead = [n for n, p in task.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


@pytest.mark.parametrize("name", METHODS)
def test_learns(name):
    task = build(name)
    sgd = toy.optimizer(task)
    task.on_epoch_start(toy.epoch(0))
    losses = toy.train(task, [0] * 20, sgd=sgd)
    assert losses[-1] < 0.8 * losses[0]


def test_labels_are_not_read():
    first, second = build("simclr"), build("simclr")
    batch = toy.batch(0)
    other = type(batch)(batch.images, batch.labels + 3, batch.index)
    assert torch.equal(first(batch).loss, second(other).loss)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_bad_temperature(temperature):
    with pytest.raises(ConfigError, match="--temperature"):
        TemperatureOptions(temperature=temperature)


def _rank_runs(rank):
    return {
        name: run(
            synchronised(build(name)),
            list(range(4)),
            share=lambda b: toy.half(b, rank),
            wrap=DistributedDataParallel,
        )
        for name in METHODS
    }


@pytest.fixture(scope="module")
def ranks():
    return run_on_two(_rank_runs)


@pytest.mark.distributed
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one(ranks, name):
    first, second = (r[name] for r in ranks)
    alone = run(build(name), list(range(4)))
    losses = (first.pop("losses") + second.pop("losses")) / 2
    torch.testing.assert_close(losses, alone.pop("losses"), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    # Projections are compared in float32, so gradients carry its rounding.
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_needs_no_batch_norm():
    parts = toy.parts()
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    task = build("simclr", type(parts)(plain, parts.projector, parts.view, (), 24))
    assert torch.isfinite(task(toy.batch(0)).loss)
