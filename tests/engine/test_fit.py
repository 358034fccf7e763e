from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from accelerate import Accelerator

from ssl_lt.core.errors import CheckpointError, NumericError
from ssl_lt.engine.checkpoints.checkpoint import newest_checkpoint
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.engine.signals import Stopped
from tests.engine.tiny import TinyLoader, TinyTask, plan


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True, mixed_precision="no")


def no_measurement(task, epoch):
    return {"measured": float(epoch.number)}


def lines(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def run(folder, accelerator, task=None, end_of_epoch=no_measurement, **options):
    task = task or TinyTask()
    fit(
        task,
        TinyLoader(),
        plan(**options),
        accelerator=accelerator,
        folder=folder,
        end_of_epoch=end_of_epoch,
    )
    return task


def test_lines_hold_means_and_measurements(tmp_path, accelerator):
    folder = create_run_folder(tmp_path / "run")
    losses = []

    class Recording(TinyTask):
        def forward(self, batch):
            output = super().forward(batch)
            losses.append(output.loss.item())
            return output

    run(folder, accelerator, Recording())
    found = lines(folder)
    logged = [line for line in found if "loss" in line]
    # Every third step, and the last of each epoch of four.
    assert [line["step"] for line in logged] == [3, 4, 6, 8, 9, 12]
    start = 0
    for line in logged:
        window = losses[start : line["step"]]
        assert line["loss"] == pytest.approx(sum(window) / len(window), rel=1e-5)
        start = line["step"]
        assert {"lr", "grad_norm", "largest", "epoch"} <= line.keys()
    assert [line["measured"] for line in found if "measured" in line] == [0.0, 1.0, 2.0]
    assert len(folder.timing.read_text().splitlines()) == 3


class DiedError(Exception):
    pass


@pytest.mark.parametrize("last_step", [1, 4, 5, 6, 11])
def test_resumed_anywhere_is_the_same_bit_for_bit(tmp_path, accelerator, last_step):
    whole = create_run_folder(tmp_path / "whole")
    expected = run(whole, accelerator, checkpoint_every=1)

    class Dies(TinyTask):
        steps = 0

        def forward(self, batch):
            if self.steps == last_step:
                raise DiedError
            self.steps += 1
            return super().forward(batch)

    broken = create_run_folder(tmp_path / "broken")
    with pytest.raises(DiedError):
        run(broken, accelerator, Dies(), checkpoint_every=1)
    torch.rand(7)  # the global generator stands elsewhere than it did
    found = run(broken, accelerator, checkpoint_every=1)
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert torch.equal(found.memory.tables["count"], expected.memory.tables["count"])
    assert broken.metrics.read_bytes() == whole.metrics.read_bytes()
    assert found.epochs_started[0] == last_step // 4


def test_a_finished_run_trains_no_more(tmp_path, accelerator):
    folder = create_run_folder(tmp_path / "run")
    first = run(folder, accelerator)
    before = folder.metrics.read_bytes()
    again = run(folder, accelerator)
    assert again.epochs_started == []
    assert folder.metrics.read_bytes() == before
    assert torch.equal(again.out.weight, first.out.weight)


def test_accumulation_is_the_mean_of_its_batches(tmp_path, accelerator):
    class Linear(TinyTask):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
            self.dropout = torch.nn.Identity()
            torch.manual_seed(3)
            self.out = torch.nn.Linear(12, 4)

    one, two = Linear(), Linear()
    wide = plan(epochs=1)
    folder = create_run_folder(tmp_path / "wide")
    kwargs = {"accelerator": accelerator, "end_of_epoch": no_measurement}
    fit(one, TinyLoader(batch_size=32), wide, folder=folder, **kwargs)
    folder = create_run_folder(tmp_path / "accumulated")
    narrow = plan(epochs=1, accumulate_steps=2)
    fit(two, TinyLoader(batch_size=16), narrow, folder=folder, **kwargs)
    assert torch.allclose(one.out.weight, two.out.weight, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_an_epoch_knows_how_many_batches_it_has(tmp_path, accelerator, accumulate):
    class Counting(TinyTask):
        def on_epoch_start(self, epoch):
            self.steps, self.batches = epoch.steps, 0

        def forward(self, batch):
            self.batches += 1
            return super().forward(batch)

    folder = create_run_folder(tmp_path / "run")
    task = run(folder, accelerator, Counting(), accumulate_steps=accumulate)
    assert task.steps == task.batches == {1: 4, 2: 4, 3: 3}[accumulate]


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_not_finite_stops_before_the_update(tmp_path, accelerator, poison):
    class Poisoned(TinyTask):
        steps = 0

        def forward(self, batch):
            output = super().forward(batch)
            self.steps += 1
            if self.steps == 6:
                self.before = self.out.weight.detach().clone()
                if poison == "loss":
                    output = type(output)(output.loss * float("nan"), output.terms)
                else:
                    self.out.weight.register_hook(lambda grad: grad * float("inf"))
            return output

    folder = create_run_folder(tmp_path / "run")
    task = Poisoned()
    with pytest.raises(NumericError, match="step 6"):
        run(folder, accelerator, task)
    assert torch.equal(task.out.weight, task.before)
    assert newest_checkpoint(folder.checkpoints).step == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_and_saves(tmp_path, accelerator, number, code):
    whole = create_run_folder(tmp_path / "whole")
    expected = run(whole, accelerator)

    class Signalled(TinyTask):
        steps = 0

        def forward(self, batch):
            self.steps += 1
            if self.steps == 6:
                os.kill(os.getpid(), number)
            return super().forward(batch)

    folder = create_run_folder(tmp_path / "run")
    with pytest.raises(Stopped) as stopped:
        run(folder, accelerator, Signalled())
    assert stopped.value.exit_code == code
    assert newest_checkpoint(folder.checkpoints).step == 6
    found = run(folder, accelerator)
    assert torch.equal(found.out.weight, expected.out.weight)
    assert folder.metrics.read_bytes() == whole.metrics.read_bytes()


def test_a_checkpoint_of_another_model_is_refused(tmp_path, accelerator):
    folder = create_run_folder(tmp_path / "run")
    run(folder, accelerator)

    class Wider(TinyTask):
        def __init__(self):
            super().__init__()
            self.out = torch.nn.Linear(32, 5)

    with pytest.raises(CheckpointError, match=r"out.weight is \(4, 32\), expected \(5, 32\)"):
        run(folder, accelerator, Wider())
    with pytest.raises(CheckpointError, match="12 steps, this one has 8"):
        run(folder, accelerator, epochs=2)
