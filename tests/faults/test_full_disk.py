"""A disk that is full, in the way or not to be written: said in one line, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from contextlib import contextmanager

import pytest
import torch

from ssl_lt.core.errors import DiskError
from ssl_lt.engine.checkpoints.checkpoint import (
    Checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from ssl_lt.engine.checkpoints.run_folder import trim_lines
from tests.faults.tiny_runs import assert_same_run, measured, train
from tests.toolbox import TINY, call, snapshot, succeed

DISK = 7
SHAPES = {"model": (100, 1), "optimizer": (100, 10), "memory": (100, 100)}
NEEDED = 4 * (100 + 1000 + 10_000)


def content(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    tensors = {stem: {"w": torch.randn(s, generator=generator)} for stem, s in SHAPES.items()}
    return Checkpoint(step, {"position": step}, tensors)


@contextmanager
def no_file_beyond(num_bytes):
    """What a full disk does, without one; Python ignores SIGXFSZ, so that writing fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_refused(folder, message):
    """The error says what, where and how much; what was there before is whole."""
    assert "\n" not in message
    assert message.startswith(f"{folder / 'step-000002'}: checkpoint of {NEEDED:,} bytes")
    assert "are free" in message
    assert [path.name for path in folder.iterdir()] == ["step-000001"]
    found = load_checkpoint(folder / "step-000001").tensors["memory"]["w"]
    assert found.equal(content(1).tensors["memory"]["w"])


# Stopped at the first tensors, at the second, at the third, and at the manifest beside nothing.
@pytest.mark.parametrize("num_bytes", [0, 300, 3000, 30_000])
def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_half_written(tmp_path, num_bytes):
    folder = tmp_path / "checkpoints"
    save_checkpoint(folder, content(1), keep=2)
    with pytest.raises(DiskError) as error, no_file_beyond(num_bytes):
        save_checkpoint(folder, content(2), keep=2)
    assert_refused(folder, str(error.value))
    assert error.value.exit_code == DISK
    save_checkpoint(folder, content(2), keep=2)
    assert newest_checkpoint(folder).step == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        folder = disk / "checkpoints"
        save_checkpoint(folder, content(1), keep=2)
        with pytest.raises(DiskError, match="No space left on device") as error:
            save_checkpoint(folder, content(2), keep=2)
        assert_refused(folder, str(error.value))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_run_that_found_the_disk_full_goes_on_when_there_is_room(tmp_path):
    words = [*TINY, "--knn-every", "0", "--run-dir", tmp_path / "run"]
    with no_file_beyond(50_000):  # less than the weights take
        outcome = call("pretrain", *words)
    assert (outcome.code, len(outcome.err)) == (DISK, 1), outcome.err
    assert "step-000009: checkpoint of" in outcome.err[0]
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    succeed("pretrain", "--resume", tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run" / "checkpoints").step == 9


@pytest.mark.parametrize(
    ("run_dir", "code", "says"),
    [
        ("file", 2, "--run-dir: file exists and is never overwritten"),
        ("file/run", DISK, "--run-dir: file/run: cannot be written: Not a directory"),
        ("/proc/none/run", DISK, "--run-dir: /proc/none/run: cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_first_step(
    empty, monkeypatch, run_dir, code, says
):
    monkeypatch.setattr("ssl_lt.runs.life.training.fit", lambda *_, **__: pytest.fail("it began"))
    (empty / "file").write_text("in the way")
    before = snapshot(empty)
    outcome = call("pretrain", *TINY, "--run-dir", run_dir)
    assert outcome.code == code
    assert len(outcome.err) == 1
    assert outcome.err[0].startswith(f"error: {says}")
    assert snapshot(empty) == before


# After how many lines the log is replaced by a folder: the next line falls within an epoch, at the
# end of one, and is that of a measurement.
@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_log_that_cannot_be_written_ends_the_run_with_its_state_saved(tmp_path, lines):
    from ssl_lt.engine.logs import metrics as log

    path, append = tmp_path / "run", log.append_line
    aside, written = tmp_path / "aside", []

    def replaced(file, record):
        if file.name == "metrics.jsonl":
            if len(written) == lines:
                if file.is_file():
                    file.rename(aside)
                file.mkdir()
            written.append(record)
        append(file, record)

    log.append_line = replaced
    try:
        with pytest.raises(DiskError) as error:
            train(path, log_every=3)
    finally:
        log.append_line = append
    assert error.value.exit_code == DISK
    assert str(path / "metrics.jsonl") in str(error.value)
    saved = newest_checkpoint(path / "checkpoints").step
    assert saved == (3, 4, 4)[lines]
    assert lines == 2 or f"the state after step {saved} is saved" in str(error.value)
    with pytest.raises(DiskError, match=r"metrics\.jsonl"):
        train(path, log_every=3)  # still in the way
    (path / "metrics.jsonl").rmdir()
    if aside.exists():
        aside.rename(path / "metrics.jsonl")
    train(path, log_every=3)
    train(tmp_path / "alone", log_every=3)
    assert_same_run(path, tmp_path / "alone")


def test_a_line_cut_anywhere_is_dropped_and_written_again(tmp_path):
    alone, path = tmp_path / "alone", tmp_path / "run"
    train(alone, log_every=3)
    whole = (alone / "metrics.jsonl").read_bytes()

    def stops_after_the_second(task, epoch):
        if epoch.number == 1:
            raise KeyboardInterrupt
        return measured(task, epoch)

    with pytest.raises(KeyboardInterrupt):
        train(path, end_of_epoch=stops_after_the_second, log_every=3)
    metrics = path / "metrics.jsonl"
    saved = metrics.read_bytes()
    assert whole.startswith(saved)
    next_line = whole[len(saved) :].splitlines()[0]
    assert json.loads(next_line)["step"] == json.loads(saved.splitlines()[-1])["step"] == 8
    for length in range(len(next_line) + 1):
        metrics.write_bytes(saved + next_line[:length])
        trim_lines(metrics, last_step=8)
        assert metrics.read_bytes() == saved
    metrics.write_bytes(saved + next_line[:10])
    train(path, log_every=3)
    assert_same_run(path, alone)
