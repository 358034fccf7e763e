from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from ssl_lt.engine.averaging import WeightAverage, decay_at
from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from tests.engine.tiny import TinyLoader, TinyTask, plan

EMA = 0.3


def settings(**options):
    chosen = plan(**options)
    return replace(chosen, optim=replace(chosen.optim, ema=EMA))


class DiedError(Exception):
    pass


class Recording(TinyTask):
    """Remembers what it is before each step; dies before one of them."""

    def __init__(self, dies_at=None):
        super().__init__()
        self.seen, self.dies_at = [], dies_at

    def forward(self, batch):
        if len(self.seen) == self.dies_at:
            raise DiedError
        self.seen.append({k: v.clone() for k, v in self.state_dict().items()})
        return super().forward(batch)


def run(folder, task, *, measured=None, **options):
    def end_of_epoch(task, epoch):
        if measured is not None:
            measured.append({k: v.clone() for k, v in task.state_dict().items()})
        return {"measured": float(task.out.weight.sum())}

    fit(
        task,
        TinyLoader(),
        settings(**options),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=end_of_epoch,
    )
    return task


def test_the_decay_warms_up():
    assert decay_at(1, decay=0.999) == 2 / 11
    assert decay_at(90, decay=0.999) == 0.91
    assert decay_at(10**6, decay=0.999) == 0.999
    assert decay_at(1, decay=0.1) == 0.1


def test_the_average_by_plain_loops_over_numbers():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    average = WeightAverage(net, decay=0.2)
    slow = {name: tensor.flatten().tolist() for name, tensor in net.state_dict().items()}
    for step in range(1, 8):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
            net(torch.randn(4, 2).double())  # moves the running statistics
        average.update(step)
        d = min(0.2, (1 + step) / (10 + step))
        for name, tensor in net.state_dict().items():
            for place, value in enumerate(tensor.flatten().tolist()):
                counts = name.endswith("num_batches_tracked")
                old = slow[name][place]
                slow[name][place] = value if counts else d * old + (1 - d) * value
    for name, tensor in average.tensors.items():
        assert tensor.flatten().tolist() == pytest.approx(slow[name], rel=1e-12)
    assert slow["1.num_batches_tracked"] == [7]


def test_the_average_is_measured_saved_and_left_and_training_goes_on_without_it(tmp_path):
    measured = []
    folder = create_run_folder(tmp_path / "run")
    task = run(folder, Recording(), measured=measured)
    # It trains as it would without: the average is only looked at.
    plain = Recording()
    fit(
        plain,
        TinyLoader(),
        plan(),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=create_run_folder(tmp_path / "plain"),
        end_of_epoch=lambda task, epoch: {},
    )
    for mine, other in zip(task.seen, plain.seen, strict=True):
        assert all(mine[name].equal(value) for name, value in other.items())
    states = [*plain.seen[1:], plain.state_dict()]
    average = plain.seen[0]
    for step, weights in enumerate(states, start=1):
        d = min(EMA, (1 + step) / (10 + step))
        for name, tensor in weights.items():
            is_whole = not tensor.is_floating_point()
            average[name] = tensor if is_whole else d * average[name] + (1 - d) * tensor
        if step == 4:
            torch.testing.assert_close(measured[0], average)
    torch.testing.assert_close(dict(task.state_dict()), average)
    path, step = evaluated_weights(folder.checkpoints)
    assert (path.name, step) == ("ema.safetensors", 12)
    saved = load_file(path)
    assert all(saved[name].equal(tensor) for name, tensor in task.state_dict().items())
    trained = load_file(path.with_name("model.safetensors"))
    assert all(trained[name].equal(tensor) for name, tensor in plain.state_dict().items())


@pytest.mark.parametrize("last_step", [1, 4, 6])
def test_resumed_anywhere_the_average_is_the_same_bit_for_bit(tmp_path, last_step):
    whole = create_run_folder(tmp_path / "whole")
    expected = run(whole, Recording(), checkpoint_every=1)
    broken = create_run_folder(tmp_path / "broken")
    with pytest.raises(DiedError):
        run(broken, Recording(last_step), checkpoint_every=1)
    found = run(broken, Recording(), checkpoint_every=1)
    for name, value in expected.state_dict().items():
        assert found.state_dict()[name].equal(value), name
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()
    # Finished: taken up again, it has the average again.
    again = run(broken, Recording(), checkpoint_every=1)
    assert again.seen == []
    assert again.out.weight.equal(expected.out.weight)
