"""fp16 scales the loss; here in fp32 on a CPU, where a power of two changes no bit."""

from __future__ import annotations

import json
import math

import pytest
import torch
from accelerate import Accelerator

from ssl_lt.core.errors import ConfigError, NumericError
from ssl_lt.core.precision import autocast_dtype, resolve_precision
from ssl_lt.engine.checkpoints.checkpoint import newest_checkpoint
from ssl_lt.engine.checkpoints.run_folder import RunFolder, create_run_folder
from ssl_lt.engine.fit import fit
from tests.engine.tiny import TinyLoader, TinyTask, plan


def scaled(init_scale, **options):
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=init_scale, **options)
    return accelerator


def train(path, accelerator, task=None, **options):
    task = task or TinyTask()
    fit(
        task,
        TinyLoader(),
        plan(log_every=1, **options),
        accelerator=accelerator,
        folder=RunFolder(path) if path.exists() else create_run_folder(path),
        end_of_epoch=lambda task, epoch: {},
    )
    return task


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_scaled_loss_moves_the_weights_alike(tmp_path):
    plain = train(tmp_path / "plain", Accelerator(cpu=True, mixed_precision="no"))
    found = train(tmp_path / "scaled", scaled(2.0**10))
    for name, tensor in plain.state_dict().items():
        assert found.state_dict()[name].equal(tensor), name
    assert lines(tmp_path / "scaled") == lines(tmp_path / "plain")


def test_a_step_that_overflows_is_left_out_and_the_scale_halved(tmp_path):
    accelerator = scaled(2.0**24)
    weights = []

    class Remembers(TinyTask):
        def __init__(self):
            super().__init__()
            self.out.weight.register_hook(
                lambda gradient: gradient.where(gradient.abs() < 2.0**17, torch.inf)
            )

        def forward(self, batch):
            weights.append(self.out.weight.detach().clone())
            return super().forward(batch)

    train(tmp_path / "run", accelerator, Remembers())
    norms = [line["grad_norm"] for line in lines(tmp_path / "run")]
    left_out = norms.index(next(norm for norm in norms if norm))
    assert left_out >= 2
    assert all(weight.equal(weights[0]) for weight in weights[: left_out + 1])
    assert not weights[left_out + 1].equal(weights[0])
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path / "run"))
    state = newest_checkpoint(tmp_path / "run/checkpoints").state["scaler"]
    assert state["scale"] == accelerator.scaler.get_scale()


def test_a_run_that_goes_on_has_the_scale_it_had(tmp_path):
    class DiedError(Exception):
        pass

    class Dies(TinyTask):
        steps = 0

        def forward(self, batch):
            if self.steps == 5:
                raise DiedError
            self.steps += 1
            return super().forward(batch)

    train(tmp_path / "alone", scaled(2.0**20, growth_interval=2))
    with pytest.raises(DiedError):
        train(tmp_path / "killed", scaled(2.0**20, growth_interval=2), Dies(), checkpoint_every=1)
    train(tmp_path / "killed", scaled(2.0**20, growth_interval=2))
    states = [newest_checkpoint(tmp_path / run / "checkpoints") for run in ("alone", "killed")]
    assert states[0].state == states[1].state
    assert states[0].state["scaler"]["scale"] == 2.0**26
    assert lines(tmp_path / "alone") == lines(tmp_path / "killed")


def test_a_loss_that_is_not_finite_or_a_scale_of_one_ends_the_run(tmp_path):
    class Poisoned(TinyTask):
        def forward(self, batch):
            output = super().forward(batch)
            return type(output)(output.loss * float("nan"), output.terms)

    class Steep(TinyTask):
        def forward(self, batch):
            self.out.weight.register_hook(lambda gradient: gradient * float("inf"))
            return super().forward(batch)

    with pytest.raises(NumericError, match="step 1: loss nan"):
        train(tmp_path / "poisoned", scaled(2.0**10), Poisoned())
    with pytest.raises(NumericError, match=r"step 4: the gradient of out\.weight is not finite"):
        train(tmp_path / "steep", scaled(2.0**3), Steep())


def test_fp16_needs_cuda_to_train_and_to_embed():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    with pytest.raises(ConfigError, match="--mixed-precision fp16: needs a CUDA device"):
        resolve_precision("fp16", cpu)
    assert resolve_precision("fp16", cuda) == "fp16"
    assert autocast_dtype("fp16", cuda) == torch.float16
    assert autocast_dtype("fp16", cpu) is None  # a run of a GPU, judged elsewhere
