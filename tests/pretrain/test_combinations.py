"""Every method with every kind of plug-in set, put together as the command line does it.

The cases come from the registry: a new method or plug-in is tested here by being registered.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import timm
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.core.types import Batch, Epoch
from ssl_lt.data.dataset import open_data
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.checkpoints.checkpoint import newest_checkpoint
from ssl_lt.engine.signals import Stopped
from ssl_lt.models.batch_norm import synchronised
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from ssl_lt.runs.build.pretraining import build_task
from ssl_lt.runs.life.start import start_run
from ssl_lt.runs.life.training import OpenRun, train
from ssl_lt.runs.pretrain import training_of
from tests.configs import pretraining
from tests.distributed.pool import NUM_RANKS, run_on_two

SETS = [(), *((name,) for name in PLUGINS), tuple(PLUGINS)]
CASES = [
    pytest.param(method, plugins, id="+".join([method, *plugins]))
    for method in METHODS
    for plugins in SETS
]
TINY = {
    "backbone": "resnet20_cifar",
    "width": 4,
    "image-size": 16,
    "projector.output-dim": 16,
    "gh.clusters": 8,
    "batch-size": 32,
    "epochs": 3,
    "knn-every": 0,
    "mixed-precision": "no",
    "num-workers": 0,
}
STEPS = 3


@cache
def digits():
    """96 of the digits, three steps an epoch."""
    data = open_data(DataOptions(image_size=16))
    rows = np.arange(0, len(data.train), len(data.train) // (32 * STEPS))[: 32 * STEPS]
    return replace(data, train=data.train.take(rows))


def config_of(method, plugins):
    values = {k: v for k, v in TINY.items() if "." not in k or k[: k.index(".")] in
              ("projector", *plugins)}  # fmt: skip
    return pretraining(method, plugins, values)


def batches(number, steps):
    """An epoch's first batches, in an order of its own."""
    table = digits().train
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(number))
    for rows in order.split(32)[:steps]:
        yield Batch(table.pixels[rows], table.labels[rows], rows)


def state(task):
    """Copies of all that a checkpoint would hold of a task."""
    memories = {f"{m.name}.{k}": v for m in task.memories() for k, v in m.state_dict().items()}
    return {k: v.detach().clone() for k, v in (task.state_dict() | memories).items()}


def two_epochs(task, *, steps=1, change=lambda batch: batch, wrap=lambda task: task):
    """Trains a warm-up epoch and one after it: the losses, last gradients, and the state.

    The second epoch ends before its last update, so the gradients belong to the state.
    """
    forward = wrap(task)
    sgd = torch.optim.SGD(task.parameters(), lr=0.002, momentum=0.9)
    losses, terms = [], []
    for number in range(2):
        epoch = Epoch(number=number, total=2, steps=steps)
        task.on_epoch_start(epoch)
        for batch in batches(number, steps):
            if losses:
                sgd.step()
            sgd.zero_grad()
            output = forward(change(batch))
            output.loss.backward()
            losses.append(output.loss.detach())
            terms.append(dict(output.terms))
        task.on_epoch_end(epoch)
    gradients = {name: p.grad for name, p in task.named_parameters()}
    found = {"losses": torch.stack(losses), "gradients": gradients, "state": state(task)}
    return {**found, "terms": terms}


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("method", "plugins"), CASES)
def test_reaches_every_weight_and_reads_no_label(method, plugins):
    def without_labels(batch):
        return Batch(batch.images, torch.full_like(batch.labels, -1), batch.index)

    config = config_of(method, plugins)
    task = build_task(config, digits())
    before = state(task)
    expected = two_epochs(task)
    found = two_epochs(build_task(config, digits()), change=without_labels)
    assert_same(found, expected)
    assert torch.isfinite(expected["losses"]).all()
    for name, parameter in task.backbone.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        assert not torch.equal(parameter, before[f"backbone.{name}"]), name


@pytest.mark.slow
@pytest.mark.parametrize(("method", "plugins"), CASES)
def test_interrupted_inside_an_epoch_and_resumed_is_the_same_bit_for_bit(tmp_path, method, plugins):
    config, accelerator = config_of(method, plugins), Accelerator(cpu=True, mixed_precision="no")

    def run(folder, task):
        plan = BatchSchedule(len(digits().train), config.fit.batch_size, config.run.seed)
        opened = OpenRun(folder.path, folder, digits(), accelerator)
        train(opened, training_of(opened, config, task, plan))
        return newest_checkpoint(folder.checkpoints)

    def start(name):
        return start_run(tmp_path / name, config, digits(), accelerator, verb="pretrain")

    whole, broken = start("whole"), start("broken")
    task = build_task(config, digits())
    expected = run(whole, task)
    assert expected.step == 3 * STEPS

    stopped = build_task(config, digits())
    calls = []

    def stop_in_the_fifth_step(*_):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped.register_forward_pre_hook(stop_in_the_fifth_step)
    with pytest.raises(Stopped):
        run(broken, stopped)
    assert newest_checkpoint(broken.checkpoints).step == 5
    found = run(broken, build_task(config, digits()))

    assert found.tensors.keys() == expected.tensors.keys()
    assert_same(found.tensors, expected.tensors)
    assert found.state == expected.state
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()
    scores = sorted(path.name for path in whole.scores.glob("*"))
    assert scores == ([f"epoch-{n:04d}.safetensors" for n in (1, 2, 3)] if task.scores() else [])
    for name in scores:
        assert (broken.scores / name).read_bytes() == (whole.scores / name).read_bytes()

    # In float64: memory layouts and processors round float32 each in its own way.
    exported = timm.create_model(f"local-dir:{whole.exported}", pretrained=True).eval().double()
    picture = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(exported(picture), task.backbone.eval().double()(picture))


class DoubleView(nn.Module):
    """A view in float64: what two processes and one differ by is then rounding far below it."""

    def __init__(self, view):
        super().__init__()
        self.view = view

    def forward(self, images, keys, strength=None):
        return self.view(images, keys, strength).double()


def build_double(method, plugins):
    """The networks in float64; projections are compared, and remembered, in float32."""
    task = build_task(config_of(method, plugins), digits())
    task.view = DoubleView(task.view)
    for name, child in task.named_children():
        if name not in ("view", "plugins"):
            child.double()
    return task


def _on_this_rank(rank, cases):
    def half(batch):
        rows = slice(rank * 32 // NUM_RANKS, (rank + 1) * 32 // NUM_RANKS)
        return Batch(batch.images[rows], batch.labels[rows], batch.index[rows])

    def wrap(task):
        return DistributedDataParallel(task, broadcast_buffers=False)

    return [
        two_epochs(synchronised(build_double(method, plugins)), change=half, wrap=wrap)
        for method, plugins in cases
    ]


@pytest.fixture(scope="module")
def ranks(request):
    """What both processes found in each case that was chosen."""
    tests = [i for i in request.session.items if i.originalname == "test_two_processes_equal_one"]
    params = [test.callspec.params for test in tests if test.path == request.path]
    cases = [(chosen["method"], chosen["plugins"]) for chosen in params]
    return dict(zip(cases, zip(*run_on_two(_on_this_rank, cases), strict=True), strict=True))


@pytest.mark.distributed
@pytest.mark.parametrize(("method", "plugins"), CASES)
def test_two_processes_equal_one(ranks, method, plugins):
    first, second = ranks[method, plugins]
    alone = two_epochs(build_double(method, plugins))
    losses = (first["losses"] + second["losses"]) / 2
    torch.testing.assert_close(losses, alone["losses"], rtol=1e-5, atol=1e-5)
    for mine, others, expected in zip(first["terms"], second["terms"], alone["terms"], strict=True):
        # As they are logged.
        means = {name: (mine[name] + others[name]) / 2 for name in expected}
        torch.testing.assert_close(means, expected, rtol=1e-5, atol=1e-5)
    for part in ("gradients", "state"):
        assert_same(second[part], first[part])
        # Float32's rounding of the projections is in all of them.
        torch.testing.assert_close(first[part], alone[part], rtol=1e-4, atol=1e-5, equal_nan=True)
