"""Trainings small enough to kill at every step, for processes of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from ssl_lt.engine.checkpoints import checkpoint as checkpoints
from ssl_lt.engine.checkpoints.checkpoint import load_checkpoint
from ssl_lt.engine.checkpoints.run_folder import RunFolder, create_run_folder
from ssl_lt.engine.fit import fit
from tests.engine.tiny import TinyLoader, TinyTask, plan

STEPS_PER_EPOCH, STEPS = 4, 12


def measured(task, epoch):
    return {"measured": float(epoch.number)}


def train(path, *, task=None, end_of_epoch=measured, **options):
    """Starts or resumes a training of `TinyTask`."""
    folder = RunFolder(Path(path)) if Path(path).exists() else create_run_folder(Path(path))
    task = task or TinyTask()
    fit(
        task,
        TinyLoader(),
        plan(**options),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        folder=folder,
        end_of_epoch=end_of_epoch,
    )
    return task


def die() -> None:
    """As if the power had gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_fork(function: Callable[[], object]) -> int:
    """Exit code of a function in a process of its own, or minus the signal that killed it."""
    sys.stdout.flush()
    os.fsync = lambda descriptor: None  # slow, and of no use to those who only die by a signal
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(number: int, folder: Path) -> None:
    """From now on, this process dies before the number-th thing it does to a file of a folder."""
    left = [number]
    within = str(folder)

    def count():
        left[0] -= 1
        if left[0] == 0:
            die()

    def audit(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            names = [str(a) for a in arguments[:2] if isinstance(a, str | os.PathLike)]
            # What is removed with a tree is named relative to it.
            if any(name.startswith(within) or not name.startswith("/") for name in names):
                count()

    save_file = checkpoints.save_file

    def counted_save_file(*arguments):
        count()  # it is not written in Python, and tells no audit hook
        save_file(*arguments)

    checkpoints.save_file = counted_save_file
    sys.addaudithook(audit)


def assert_same_run(found: Path, expected: Path) -> None:
    """Lines, weights, optimiser, memories, what was exported; and nothing is left over."""
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    newest, wanted = (
        load_checkpoint(max((run / "checkpoints").glob("step-*"))) for run in (found, expected)
    )
    assert newest.step == wanted.step
    assert newest.state == wanted.state
    assert newest.tensors.keys() == wanted.tensors.keys()
    for stem, tensors in wanted.tensors.items():
        assert newest.tensors[stem].keys() == tensors.keys()
        for name, value in tensors.items():
            assert newest.tensors[stem][name].equal(value), f"{stem}: {name}"
    for name in ("exported", "scores"):
        own, wanted = (
            {p.name: p.read_bytes() for p in (run / name).glob("*")} for run in (found, expected)
        )
        assert own == wanted
    assert [p for p in found.rglob(".*")] == []
