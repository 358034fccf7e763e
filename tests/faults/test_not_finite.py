"""A number that is not finite, or memory that runs out, stops a run before it does harm."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from ssl_lt.core.errors import NumericError, OutOfMemoryError
from ssl_lt.core.types import StepOutput
from ssl_lt.engine import fit as engine
from ssl_lt.engine.checkpoints.checkpoint import newest_checkpoint
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.finite import MicroBatch, not_finite
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.pretrain.two_views import TwoViewTask
from tests.engine.tiny import TinyLoader, TinyTask, plan
from tests.toolbox import TINY, call

NAN = float("nan")


def fit(folder, task, the_plan):
    return engine.fit(
        task,
        TinyLoader(),
        the_plan,
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=lambda task, epoch: {},
    )


class Poisoned(TinyTask):
    """Its `number`-th batch is spoiled by `poison`; keeps that batch and the weights before."""

    def __init__(self, poison, number=6):
        super().__init__()
        self.poison, self.number, self.batches = poison, number, 0

    def forward(self, batch):
        self.batches += 1
        if self.batches != self.number:
            return super().forward(batch)
        self.batch = batch
        self.before = self.out.weight.detach().clone()
        return self.poison(self, batch, super().forward(batch))


def two_samples(task, batch, output):
    losses = torch.zeros(len(batch))
    losses[[2, 5]] = NAN
    return StepOutput(output.loss * NAN, {"largest": torch.tensor(NAN)}, losses)


def constant_of_the_loss(task, batch, output):
    """The gradient stays as it was."""
    return StepOutput(output.loss + float("inf"), output.terms)


def one_gradient(task, batch, output):
    task.out.bias.register_hook(lambda grad: grad * float("inf"))
    return output


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("poison", [two_samples, constant_of_the_loss, one_gradient])
def test_what_is_not_finite_is_named_before_the_update(tmp_path, poison, accumulate):
    # The sixth batch; with two a step it is the second of the third step, the fifth its first.
    numbers = {1: [6], 2: [5, 6]}[accumulate]
    for number in numbers:
        folder = create_run_folder(tmp_path / str(number))
        task = Poisoned(poison, number)
        with pytest.raises(NumericError) as error:
            fit(folder, task, plan(accumulate_steps=accumulate, checkpoint_every=1))
        said, index = str(error.value), task.batch.index
        step = 6 if accumulate == 1 else 3
        assert said.startswith(f"step {step}: ")
        assert "\n" not in said
        if poison is two_samples:
            assert f"loss nan (largest), samples {index[2]}, {index[5]}; nothing" in said
        elif poison is constant_of_the_loss:
            first = ", ".join(map(str, index[:5].tolist()))
            more = len(index) - 5
            assert f"loss inf, samples {first} and {more} more; nothing was updated" in said
        else:
            assert "the gradient of out.bias is not finite, of samples " in said
        assert torch.equal(task.out.weight, task.before)
        saved = newest_checkpoint(folder.checkpoints)
        assert saved.step == step - 1
        assert all(value.isfinite().all() for value in saved.tensors["model"].values())


def test_an_overflow_of_the_norm_alone_is_said_as_such():
    model = nn.Linear(2, 2)
    for p in model.parameters():
        p.grad = torch.full_like(p, 3e38)
    part = MicroBatch(torch.arange(7), StepOutput(torch.tensor(1.0), {}))
    said = str(not_finite(9, [part], model))
    assert "the norm of all gradients together is not finite" in said
    assert "of samples 0, 1, 2, 3, 4 and 2 more; " in said


def test_an_update_that_overflows_is_never_saved(tmp_path):
    folder = create_run_folder(tmp_path / "run")
    wild = dataclasses.replace(plan(epochs=1), optim=OptimOptions(lr=1e38, weight_decay=0))

    class Steep(TinyTask):
        def forward(self, batch):
            output = super().forward(batch)
            # Only the last step of the epoch has a gradient: its update overflows.
            self.batches = getattr(self, "batches", 0) + 1
            factor = 1e4 if self.batches == 4 else 0.0
            return StepOutput(output.loss * factor, {})

    with pytest.raises(NumericError, match=r"step 4: .*out\.weight.* not finite after the update"):
        fit(folder, Steep(), wild)
    assert newest_checkpoint(folder.checkpoints) is None


def test_a_good_step_waits_for_the_device_once(tmp_path, monkeypatch):
    waits = []
    for name in ("__bool__", "__float__", "__int__", "__index__", "item", "tolist", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, original=original, name=name):
            waits.append(name)
            return original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    seen = []

    class Watched(TinyTask):
        def forward(self, batch):
            seen.append(len(waits))
            return super().forward(batch)

    fit(create_run_folder(tmp_path / "run"), Watched(), plan(epochs=1, log_every=100))
    # Between two forwards: the decision whether to update, and nothing else.
    assert [after - before for before, after in pairwise(seen[1:])] == [1, 1]


# --- memory


def of_the_device():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


def of_the_host():
    torch.empty(1 << 50)


def of_numpy():
    raise MemoryError("Unable to allocate 7.28 TiB for an array")


@pytest.mark.parametrize("allocate", [of_the_device, of_the_host, of_numpy])
def test_without_memory_the_batch_is_named_and_the_checkpoint_stays(tmp_path, allocate):
    def poison(task, batch, output):
        allocate()

    folder = create_run_folder(tmp_path / "run")
    with pytest.raises(OutOfMemoryError) as error:
        fit(folder, Poisoned(poison), plan(checkpoint_every=1))
    said = str(error.value)
    assert said.startswith("step 6: out of memory with --batch-size 16 on 1 process: ")
    assert "--accumulate-steps" in said
    assert "\n" not in said
    assert newest_checkpoint(folder.checkpoints).step == 5
    fit(folder, TinyTask(), plan(checkpoint_every=1))
    assert newest_checkpoint(folder.checkpoints).step == 12


@pytest.mark.parametrize(
    ("allocate", "code", "says"),
    [
        (of_the_host, 8, "error: step 1: out of memory with --batch-size 64 on 1 process: "),
        (lambda: NAN, 5, "error: step 1: loss nan (contrast), samples "),
    ],
)
def test_a_command_ends_with_one_line_and_its_code(empty, monkeypatch, allocate, code, says):
    losses = TwoViewTask.forward

    def forward(self, batch):
        factor = allocate()
        output = losses(self, batch)
        terms = {name: value * factor for name, value in output.terms.items()}
        return StepOutput(output.loss * factor, terms)

    monkeypatch.setattr(TwoViewTask, "forward", forward)
    outcome = call("pretrain", *TINY, "--run-dir", "run")
    assert outcome.code == code
    # accelerate warns on stderr of what its next version does.
    (line,) = [line for line in outcome.err if line.startswith("error")]
    assert line.startswith(says)
    assert not any("Traceback" in line for line in outcome.err)
