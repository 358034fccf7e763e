"""The benchmark of a GPU, where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def bench(*words):
    return subprocess.run([sys.executable, BENCHMARK, *words], capture_output=True, text=True)


@pytest.mark.slow
def test_without_a_gpu_it_ends_with_one_line():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = bench()
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "torch sees no GPU" in done.stderr


@pytest.mark.slow
def test_runs_tiny_on_a_cpu():
    done = bench("--device", "cpu", "--small")
    assert done.returncode == 0, done.stderr
    for name in ("resnet18_cifar, 32 px", "plain loop", "Sinkhorn", "kNN", "linear probe"):
        assert name in done.stdout
