"""Two processes that hold half of the network each (FSDP 2) train as one with all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.sharding import Sharding, blocks, check_shardable
from tests.cli.commands import TINY, succeed
from tests.distributed import sharded_runs as runs
from tests.distributed.pool import run_on_two
from tests.distributed.test_training import ROOT, WORDS, assert_same_training
from tests.faults.ranks import Ranks

pytestmark = pytest.mark.distributed

SIMCLR = "simclr+bcl+gh"
ENVIRONMENT = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Of all runs; one process has trained a part of one that two then finish."""
    place = tmp_path_factory.mktemp("sharded")
    task = runs.double(runs.build("method simclr"))
    runs.train(task, place / "whole, then sharded", stopped_at=runs.STOPPED_AT)
    return place


@pytest.fixture(scope="module")
def ranks(place):
    """What each of two processes found; it has also written the runs into `place`."""
    return run_on_two(runs.in_shards, str(place))


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """Result of a training on one process, by name."""
    own, found = tmp_path_factory.mktemp("whole"), {}

    def of(name):
        if name not in found:
            if name in runs.TRAININGS:
                what, how = runs.TRAININGS[name]
                runs.train(runs.double(runs.build(what)), own / name, **how)
            else:
                task = runs.double(runs.build(name, runs.EVERY[name]))
                runs.train(task, own / name, **runs.SHORT)
            found[name] = runs.result(own / name)
        return found[name]

    return of


def assert_equal(found, expected, *, tolerance=1e-5):
    """Steps, metrics by step, and every tensor of the last checkpoint."""
    assert found[0] == expected[0]
    assert [line.keys() for line in found[1]] == [line.keys() for line in expected[1]]
    for line, wanted in zip(found[1], expected[1], strict=True):
        assert line == pytest.approx(wanted, rel=tolerance, abs=tolerance)
    assert found[2].keys() == expected[2].keys() >= {"model", "optimizer", "memory"}
    for stem, wanted in expected[2].items():
        torch.testing.assert_close(
            found[2][stem], wanted, rtol=tolerance, atol=tolerance, equal_nan=True
        )


@pytest.mark.parametrize("name", runs.TRAININGS)
def test_the_same_metrics_weights_and_memories(ranks, place, whole, name):
    assert_equal(runs.result(place / name), whole(name))


def test_each_process_holds_half(ranks, place):
    for name in runs.TRAININGS:
        tensors = runs.result(place / name)[2]
        weights = sum(t.nbytes for n, t in tensors["model"].items() if is_weight(n))
        state = sum(t.nbytes for t in tensors["optimizer"].values() if t.ndim)
        for found in (rank[name] for rank in ranks):
            assert 0.45 * weights < found["weights"] < 0.55 * weights
            assert 0.45 * state < found["state"] < 0.55 * state
            assert found["left whole"]
        assert sum(rank[name]["weights"] for rank in ranks) == weights


def test_nothing_is_sent_by_functional_collectives(ranks):
    for name in runs.TRAININGS:
        for rank in ranks:
            assert rank[name]["functional"] == (["all_reduce"] if name == "lars" else [])


def is_weight(name):
    """Not of a batch norm's statistics, nor of a plug-in's clusters."""
    return name.endswith((".weight", ".bias"))


def test_weights_may_stay_between_the_passes(ranks, place, whole):
    assert_equal(runs.result(place / "not resharded"), whole("nesterov"))


def test_stopped_and_resumed_is_the_same_to_the_bit(ranks, place):
    assert ranks[0]["stopped"] == runs.STOPPED_AT + 1
    assert_equal(runs.result(place / "stopped"), runs.result(place / SIMCLR), tolerance=0)


def test_what_one_process_has_begun_two_finish_in_shards(ranks, place, whole):
    assert_equal(runs.result(place / "whole, then sharded"), whole(SIMCLR))


def test_what_two_have_begun_in_shards_one_finishes(ranks, place, whole, tmp_path):
    run = shutil.copytree(place / "sharded, then whole", tmp_path / "run")
    assert runs.result(run)[0] == f"step-{runs.STOPPED_AT + 1:06d}"
    runs.train(runs.double(runs.build("method simclr")), run)
    assert_equal(runs.result(run), whole(SIMCLR))


def test_bf16_is_that_of_ddp(ranks, place):
    found, expected = (runs.result(place / f"bf16, {name}") for name in ("FSDP", "DDP"))
    assert_equal(found, expected, tolerance=1e-4)


@pytest.mark.parametrize("name", runs.EVERY)
def test_every_kind_of_step(ranks, place, whole, name):
    """Equal or refused, whatever it does at the start and the end of an epoch."""
    if runs.build(name, runs.EVERY[name]).needs_whole_weights:
        assert not (place / f"every {name}").exists()
        assert name in ("method sdclr", "paco")
    else:
        assert_equal(runs.result(place / f"every {name}"), whole(name), tolerance=1e-4)


def test_what_is_not_finite_is_named_on_all(ranks):
    for rank in ranks:
        assert rank["gradient"].startswith(
            "step 1: the gradient of classifier.weight is not finite, of samples "
        )
        assert rank["weights"].startswith("step 1: classifier.bias not finite after the update; ")


def test_sdclr_is_refused_by_both_in_one_line(tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    ranks = Ranks(tmp_path, "pretrain", *TINY, "--method", "sdclr", "--run-dir", "run")
    try:
        assert ranks.codes() == [2, 2]
    finally:
        Ranks.end_all()
    (line,) = ranks.errors()
    assert line.startswith("error: FSDP, which the launcher's configuration asks for: ")
    assert "--method sdclr masks the weights of all blocks in each step" in line
    assert not (tmp_path / "run").exists()


def no_metrics():
    """The first line of metrics.jsonl cannot be written."""
    from ssl_lt.core.errors import DiskError
    from ssl_lt.engine import log

    def full(path, record):
        raise DiskError(f"{path}: no space left")

    log.append_line = full


def test_a_process_that_cannot_write_says_that_it_cannot_save(tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    words = [*TINY, "--log-every", "1", "--run-dir", "run"]
    ranks = Ranks(tmp_path, "pretrain", *words, faults={0: no_metrics})
    try:
        assert ranks.codes() == [7, 6]
    finally:
        Ranks.end_all()
    (line,) = ranks.errors()
    assert line == (
        "error: run/metrics.jsonl: no space left; no process can save alone what is shared out; "
        "the newest checkpoint stays"
    )


@pytest.mark.slow
def test_the_launch_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "2"]
    launcher += ["--config_file", str(ROOT / "configs/accelerate/fsdp.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def launch(verb, *words):
        command = [sys.executable, *launcher, str(ROOT / f"{verb}.py"), *words]
        found = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    said = launch("pretrain", *WORDS, "--run-dir", "runs/two")
    assert "of 2 processes, weights, gradients and optimiser state in shards (FSDP 2)" in said
    succeed("pretrain", *WORDS, "--run-dir", "one")
    assert_same_training(tmp_path / "runs/two", tmp_path / "one")
    two, one = (
        load_file(tmp_path / run / "exported/model.safetensors") for run in ("runs/two", "one")
    )
    torch.testing.assert_close(two, one, rtol=2e-2, atol=2e-2)
    assert launch("evaluate").count("report: ") == 1


def test_blocks():
    layer = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    backbone = nn.Sequential()
    backbone.stem = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    backbone.stages = nn.ModuleList([layer, nn.Sequential(nn.ReLU())])
    backbone.head = nn.Linear(2, 2)
    # Not the stem's single layers, and not what has no weights.
    assert blocks(backbone, Sharding()) == [layer]
    named = blocks(backbone, Sharding(block_classes=("Linear",)))
    assert named == [backbone.stem[0], layer[0], backbone.head]
    task = runs.build("ce")
    check_shardable(task, Sharding(block_classes=("BasicBlock",)))
    with pytest.raises(ConfigError, match="the backbone has no module of class ViTBlock"):
        check_shardable(task, Sharding(block_classes=("ViTBlock",)))
