"""One folder, one run."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from ssl_lt.core.errors import ConfigError, DiskError
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder, create_run_folder
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.config.stored import write_config
from tests.distributed.pool import run_on_two
from tests.faults.process import PATIENCE_SECONDS, Child
from tests.toolbox import TINY, call, snapshot


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """Of a run that could be resumed."""
    folder = create_run_folder(tmp_path / "run")
    write_config(folder.config, PretrainConfig(), verb="pretrain", command="")
    return folder


def hold_alone(path, ready):
    with run_lock(RunFolder(Path(path))):
        Path(ready).touch()
        time.sleep(PATIENCE_SECONDS)


def hold_with_a_worker(path, ready):
    """Like a run whose loader workers outlive it for a while."""
    with run_lock(RunFolder(Path(path))):
        if os.fork() == 0:
            Path(ready).write_text(str(os.getpid()))
        time.sleep(PATIENCE_SECONDS)


def try_to_hold(path):
    with run_lock(RunFolder(Path(path))):
        pass


@pytest.fixture
def holder(folder):
    """Starts a process that holds the lock of the run until it is killed."""
    children = []

    def start(function=hold_alone):
        ready = folder.path.with_name("ready")
        children.append(Child(folder.path.parent, function, folder.path, ready))
        children[-1].wait_for(ready.exists)
        return children[-1]

    yield start
    for child in children:
        child.kill()


@pytest.mark.slow
def test_a_second_run_fails_at_once_and_names_the_holder(folder, holder, monkeypatch):
    monkeypatch.setattr(
        "ssl_lt.runs.life.training.open_data", lambda *_, **__: pytest.fail("it went on")
    )
    child = holder()
    before = snapshot(folder.path)
    outcome = call("pretrain", "--resume", folder.path)
    assert (outcome.code, len(outcome.err)) == (2, 1)
    assert f"process {child.pid} on {socket.gethostname()}" in outcome.err[0]
    assert str(folder.lock) in outcome.err[0]
    assert snapshot(folder.path) == before
    assert child.send(signal.SIGKILL) == -signal.SIGKILL
    with run_lock(folder):  # left behind by a dead process, it means nothing
        assert folder.lock.read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.slow
def test_workers_that_outlive_a_killed_run_do_not_hold_its_lock(folder, holder):
    child = holder(hold_with_a_worker)
    ready = folder.path.with_name("ready")
    child.wait_for(lambda: ready.read_text() != "")
    worker = int(ready.read_text())
    try:
        assert child.send(signal.SIGKILL) == -signal.SIGKILL
        os.kill(worker, 0)  # is still there
        with run_lock(folder):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_what_an_old_lock_file_says_is_not_asked(folder):
    # A process that is alive, but holds nothing: its number may have gone to another since.
    folder.lock.write_text(f"process {os.getppid()} on {socket.gethostname()}\n")
    with run_lock(folder):
        pass


@pytest.mark.slow
def test_the_holder_may_take_it_again_and_gives_it_back_at_the_end(folder, holder):
    with run_lock(None), run_lock(folder):
        with run_lock(folder):
            pass
        assert Child(folder.path.parent, try_to_hold, folder.path).wait() == 1
    child = holder()
    assert child.send(signal.SIGTERM) == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_new_run_holds_its_folder_while_it_trains(tmp_path, monkeypatch, verb):
    codes = []

    def another(*arguments, folder, **options):
        child = Child(tmp_path, try_to_hold, folder.path)
        codes.append(child.wait())
        assert "is at work in this run" in child.said

    monkeypatch.setattr("ssl_lt.runs.life.training.fit", another)
    words = ["--init-from", "scratch"] if verb == "finetune" else []
    outcome = call(verb, *TINY, *words, "--run-dir", tmp_path / "new")
    assert outcome.code == 0, outcome.err
    assert codes == [1]


def lock_on(rank, path, problem):
    """What each rank says where rank 0 alone is hindered."""
    folder = RunFolder(Path(path))
    if rank == 0 and problem == "held":
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with run_lock(folder):
            return "went on"
    except ConfigError as error:
        return str(error)


@pytest.mark.distributed
def test_all_ranks_stop_where_the_first_cannot_lock(folder):
    first, second = run_on_two(lock_on, str(folder.path), "held")
    assert first == second
    assert str(folder.lock) in first
    assert run_on_two(lock_on, str(folder.path), "") == ["went on", "went on"]


def test_a_folder_that_cannot_be_locked_is_named(folder):
    folder.lock.mkdir()
    with pytest.raises(DiskError, match="run/lock"), run_lock(folder):
        pass


def test_a_file_system_without_locks_is_said_and_no_hindrance(folder, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with run_lock(folder):
        pass
    assert f"warning: {folder.lock}: this file system has no locks" in capsys.readouterr().err
