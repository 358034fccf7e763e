"""Whole runs on a GPU: compiled, over NCCL, resumed bit for bit, out of memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from ssl_lt.engine.out_of_memory import is_out_of_memory, out_of_memory
from tests.gpu.steps import CUDA
from tests.toolbox import TINY, logged, newest_weights

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
# Kernels whose result does not depend on the order in which threads arrive.
DETERMINISTIC = """
import sys, torch
torch.use_deterministic_algorithms(True, warn_only=True)
torch.backends.cudnn.benchmark = False
torch.backends.cudnn.deterministic = True
from ssl_lt.cli.main import run_command
run_command(sys.argv[1], sys.argv[2:])
"""
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]


def run(place, *words, how=(sys.executable, "-m", "ssl_lt")):
    """A command in a process of its own."""
    environment = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run(
        [*how, *map(str, words)], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def everything(folder, *words, epochs=2):
    plugins = "--method sdclr --plugins bcl gh --gh.clusters 10 --gh.warmup-epochs 0".split()
    return ["pretrain", *TINY, *plugins, "--epochs", epochs, "--run-dir", folder, *words]


def assert_same(found, expected):
    assert logged(found)[-1]["loss"] == logged(expected)[-1]["loss"]
    for name, value in newest_weights(expected).items():
        assert newest_weights(found)[name].equal(value), name


def test_resumed_bit_for_bit(tmp_path):
    how = (sys.executable, "-c", DETERMINISTIC)
    run(tmp_path, *everything("whole"), how=how)
    run(tmp_path, *everything("cut", "--checkpoint-every", 3, "--keep-checkpoints", 100), how=how)
    newest = sorted((tmp_path / "cut" / "checkpoints").glob("step-*"))
    for checkpoint in newest[1:]:
        subprocess.run(["rm", "-r", checkpoint], check=True)
    run(tmp_path, "pretrain", "--resume", "cut", how=how)
    assert_same(tmp_path / "cut", tmp_path / "whole")


def test_compiled(tmp_path):
    run(tmp_path, *everything("compiled", "--compile", epochs=1))
    assert logged(tmp_path / "compiled")[-1]["step"] > 0


def test_one_process_over_nccl_is_one_process(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(DETERMINISTIC)
    run(tmp_path, *everything("alone"), how=(sys.executable, script))
    run(tmp_path, *everything("nccl"), how=(*LAUNCH, script))
    assert_same(tmp_path / "nccl", tmp_path / "alone")


def test_memory_that_runs_out_is_recognised():
    free, _ = torch.cuda.mem_get_info()
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(4 * free, dtype=torch.uint8, device=CUDA)
    assert is_out_of_memory(caught.value)
    assert "--batch-size 8" in str(out_of_memory(caught.value, step=3, batch_size=8))
