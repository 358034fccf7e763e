"""The soak itself: a short one, and that its comparison sees what it is there to see."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_lt.engine.checkpoints.checkpoint import newest_checkpoint
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from tests.faults.tiny_runs import train
from tests.soak import soak
from tests.soak.compare import differences
from tests.soak.tally import Tally

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    path = tmp_path_factory.mktemp("soak") / "run"
    train(path, log_every=1)
    return path


def lose_a_line(run):
    lines = run.metrics.read_text().splitlines(keepends=True)
    run.metrics.write_text("".join(lines[:3] + lines[4:]))
    return f"metrics.jsonl: lost {lines[3].strip()}"


def double_a_line(run):
    lines = run.metrics.read_text().splitlines(keepends=True)
    run.metrics.write_text("".join([*lines[:4], lines[3], *lines[4:]]))
    return f"metrics.jsonl: twice {lines[3].strip()}"


def swap_lines(run):
    lines = run.metrics.read_text().splitlines(keepends=True)
    run.metrics.write_text("".join([lines[1], lines[0], *lines[2:]]))
    return "metrics.jsonl: lines in another order"


def change_the_last_bit_of_a_weight(run):
    step = newest_checkpoint(run.checkpoints).step
    name = f"checkpoints/step-{step:06d}/model.safetensors"
    content = bytearray((run.path / name).read_bytes())
    content[-1] ^= 1
    (run.path / name).write_bytes(content)
    return f"{name}: other content"


def leave_something(run):
    (run.checkpoints / ".tmp-step-000012-77").mkdir()
    (run.checkpoints / ".tmp-step-000012-77" / "model.safetensors").touch()
    return "checkpoints/.tmp-step-000012-77/model.safetensors: left over"


@pytest.mark.parametrize(
    "damage",
    [lose_a_line, double_a_line, swap_lines, change_the_last_bit_of_a_weight, leave_something],
)
def test_any_difference_is_found(run, tmp_path, damage):
    copy = RunFolder(shutil.copytree(run, tmp_path / "copy"))
    assert differences(copy, RunFolder(run)) == []
    expected = damage(copy)
    assert differences(copy, RunFolder(run)) == [expected]


@pytest.mark.slow
def test_a_short_soak_ends_as_an_undisturbed_run(tmp_path):
    words = ["--epochs", "2", "--kills", "5", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.soak", *words], cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = tmp_path / "soak.log"
    assert done.returncode == 0, done.stderr + (log.read_text() if log.is_file() else "")
    assert "none lost, none twice" in done.stdout
    tally = json.loads((tmp_path / "soak.json").read_text())
    assert sum(tally["kills"].values()) >= 5
    assert tally["compared"] >= 1
    # 9 steps an epoch, a line every second and at the end of each; one kNN.
    assert tally["lines"] == tally["compared"] * (5 + 5 + 1)

    # A weight of the next run is another one: it must say so, and fail.
    read = Tally.read(tmp_path / "soak.json")
    run = shutil.copytree(tmp_path / "undisturbed", tmp_path / f"run-{read.compared + 1:03d}")
    weights = run / "exported" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SystemExit, match=r"exported/model\.safetensors: other content"):
        soak.soak(tmp_path, read, kills=5, seconds=60, epochs=2, seed=0)
