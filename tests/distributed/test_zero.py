"""DeepSpeed's ZeRO trains as one process does, and a run moves between the two."""

from __future__ import annotations

import os
import shlex
import shutil
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from ssl_lt.cli.processes import launcher_sharing
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Batch
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.engine.parallel import check_sharing
from ssl_lt.engine.plan import FitOptions
from ssl_lt.engine.zero import Zero, ZeroModel
from tests.cli.commands import succeed
from tests.distributed.pool import run_on_two
from tests.distributed.test_training import WORDS, launch, lines
from tests.engine.tiny import TinyLoader, TinyTask

needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)

# Two groups of weights, an update that looks at the gradient's size, sums of two batches, a clip.
ZERO_WORDS = [
    *WORDS,
    *shlex.split(
        "--epochs 2 --accumulate-steps 2 --clip-grad-norm 0.5 --optimizer adamw --lr 1e-3 "
        "--decay weights --method sdclr --plugins bcl gh --gh.clusters 10 --gh.warmup-epochs 0"
    ),
]
LAST = "step-000008"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the run of one process, `one`, and that of two, `two`."""
    folder = tmp_path_factory.mktemp("zero")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        succeed("pretrain", *ZERO_WORDS, "--run-dir", "one")
        patch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
        patch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
        found = launch(folder, "pretrain", *ZERO_WORDS, "--run-dir", "two")
        assert found.returncode == 0, found.stderr
        assert "2 processes, gradients and optimiser state in shards (ZeRO 2)" in found.stdout
        unfinished(folder / "one", folder / "one-then-two")
        found = launch(folder, "pretrain", "--resume", "one-then-two")
        assert found.returncode == 0, found.stderr
    return folder


def unfinished(run, copy):
    """A copy of a run as it was after the first of its two epochs."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / LAST)
    shutil.rmtree(copy / "exported")
    (copy / "results.json").unlink()


def assert_equal(found, expected):
    assert [line["step"] for line in lines(found)] == [line["step"] for line in lines(expected)]
    for line, wanted in zip(lines(found), lines(expected), strict=True):
        for name in {"loss", "grad_norm"} & wanted.keys():
            assert line[name] == pytest.approx(wanted[name], rel=1e-5)
    for stem in ("model", "optimizer", "memory"):
        path = f"checkpoints/{LAST}/{stem}.safetensors"
        a, b = load_file(found / path), load_file(expected / path)
        assert a.keys() == b.keys()
        for name, tensor in b.items():
            # AdamW moves a bias before a batch norm, whose gradient is rounding, by 1e-4.
            torch.testing.assert_close(a[name], tensor, rtol=1e-3, atol=5e-4, equal_nan=True)


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_train_as_one(runs):
    assert_equal(runs / "two", runs / "one")


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.distributed
def test_zero_goes_on_from_one_process(runs):
    assert_equal(runs / "one-then-two", runs / "one")


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.distributed
def test_one_process_goes_on_from_zero(runs, monkeypatch):
    monkeypatch.chdir(runs)
    unfinished(runs / "two", runs / "two-then-one")
    succeed("pretrain", "--resume", "two-then-one")
    assert_equal(runs / "two-then-one", runs / "one")


def norms_with_a_gradient(rank, values):
    """On each rank: whether the norm is finite, of steps in which one rank's gradient is odd."""
    return [torch.isfinite(norm_with_a_gradient(rank, value)).item() for value in values]


def norm_with_a_gradient(rank, value):
    os.environ["LOCAL_RANK"] = str(rank)
    task = TinyTask()
    model = ZeroModel(task, build_optimizer(task, OptimOptions()), Zero(2), clip_grad_norm=None)
    batch = next(TinyLoader().epoch(0))
    rows = slice(8 * rank, 8 * rank + 8)
    output = model(Batch(batch.images[rows], batch.labels[rows], batch.index[rows]))
    if rank == 1:
        task.out.bias.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(0), value))
    output.loss.backward()
    return model.optimizer.norm()


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.distributed
def test_every_rank_sees_a_gradient_that_is_not_finite():
    found = run_on_two(norms_with_a_gradient, [float("nan"), 1.0, float("inf")])
    assert found == [[False, True, False]] * 2


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DEEPSPEED_ZERO_STAGE", "3", "zero_stage 3 of the launcher is not supported"),
        ("DEEPSPEED_ZERO_STAGE", "0", "zero_stage 0 of the launcher is not supported"),
        ("DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu", "offload_optimizer_device cpu of the"),
        ("DEEPSPEED_OFFLOAD_PARAM_DEVICE", "nvme", "offload_param_device nvme of the"),
        ("GRADIENT_CLIPPING", "1.0", "gradient_clipping 1.0 of the"),
        ("DEEPSPEED_CONFIG_FILE", "ds.json", "deepspeed_config_file of the launcher"),
        ("USE_FSDP", "true", "FSDP and DeepSpeed: .* asks for both"),
    ],
)
def test_what_a_launcher_may_not_ask_of_deepspeed(monkeypatch, variable, value, says):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert launcher_sharing() == Zero(2)
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    with pytest.raises(ConfigError, match=says):
        launcher_sharing()


@pytest.mark.parametrize(
    ("optim", "fit", "says"),
    [
        (OptimOptions(optimizer="lars"), FitOptions(), "--optimizer lars: ZeRO cuts weights"),
        (
            OptimOptions(),
            FitOptions(compile=True),
            r"--compile: not with .*\(ZeRO 2\)",
        ),
    ],
)
def test_what_would_train_otherwise_is_refused(optim, fit, says):
    check_sharing(TinyTask(), None, optim, fit)
    with pytest.raises(ConfigError, match=says):
        check_sharing(TinyTask(), Zero(2), optim, fit)
