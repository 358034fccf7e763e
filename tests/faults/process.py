"""Functions and commands in processes of their own, which a test can kill."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.forkserver import CONTEXT

PATIENCE_SECONDS = 240  # of a machine that has other things to do


def _call(folder: str, log: str, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    # One thread: what several add up in another order is not the same to the last bit.
    torch.set_num_threads(1)
    os.chdir(folder)
    # Left open: what ends the process is said after this function is left.
    sys.stdout = sys.stderr = Path(log).open("w", buffering=1)  # noqa: SIM115
    function(*args)


def _verb(verb: str, words: list[str]) -> None:
    from ssl_lt.cli.main import run_command

    run_command(verb, words)


def _run(folder: str, verb: str, words: list[str], log: str) -> None:
    _call(folder, log, _verb, (verb, words))


class Child:
    """A function at the top of a module, in a folder and a process of its own."""

    def __init__(self, folder: Path, function: Callable[..., None], *args: Any) -> None:
        self._log = folder / f"{time.monotonic_ns()}.log"
        self._process = CONTEXT.Process(
            target=_call, args=(str(folder), str(self._log), function, args)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """What it wrote so far, to stdout and stderr."""
        return self._log.read_text() if self._log.is_file() else ""

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Until something has happened."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            assert self._process.is_alive(), self.said
            assert time.monotonic() < deadline, "it does not happen"
            time.sleep(0.002)

    def wait_for_lines(self, file: Path, count: int) -> None:
        """Until a file has so many lines."""
        self.wait_for(lambda: file.is_file() and file.read_bytes().count(b"\n") >= count)

    def send(self, signal_number: int) -> int:
        """Sends a signal; returns how the process ended."""
        os.kill(self.pid, signal_number)
        return self.wait()

    def kill(self) -> None:
        """Whatever it is at: so that a test that failed leaves nobody behind."""
        self._process.kill()
        self._process.join()

    def wait(self) -> int:
        """Exit code, or minus the signal that killed it."""
        self._process.join(timeout=PATIENCE_SECONDS)
        assert self._process.exitcode is not None, "it does not end"
        return self._process.exitcode


class Command(Child):
    """`ssl-lt VERB WORDS...` in a folder."""

    def __init__(self, folder: Path, verb: str, *words: str) -> None:
        super().__init__(folder, _verb, verb, list(words))
