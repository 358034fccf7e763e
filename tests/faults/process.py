"""Commands in processes of their own that start quickly, so that a test can kill many of them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch

# Forked from a process that has imported everything and computed nothing yet.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["ssl_lt.cli.pretrain", "ssl_lt.models.backbones", "sklearn.datasets", "tests.faults.process"]
)


def _run(folder: str, verb: str, words: list[str], log: str) -> None:
    from ssl_lt.cli.main import run_verb

    # One thread: what several add up in another order is not the same to the last bit.
    torch.set_num_threads(1)
    os.chdir(folder)
    with Path(log).open("w", buffering=1) as file:
        sys.stdout = sys.stderr = file
        run_verb(verb, words)


class Command:
    """`ssl-lt VERB WORDS...` in a folder."""

    def __init__(self, folder: Path, verb: str, *words: str) -> None:
        self._log = folder / f"{time.monotonic_ns()}.log"
        self._process = _CONTEXT.Process(
            target=_run, args=(str(folder), verb, list(words), str(self._log))
        )
        self._process.start()

    @property
    def said(self) -> str:
        """What it wrote so far, to stdout and stderr."""
        return self._log.read_text() if self._log.is_file() else ""

    def wait_for_lines(self, file: Path, count: int) -> None:
        """Until a file has so many lines."""
        deadline = time.monotonic() + 120
        while not file.is_file() or file.read_bytes().count(b"\n") < count:
            assert self._process.is_alive(), self.said
            assert time.monotonic() < deadline, "no such line appeared"
            time.sleep(0.002)

    def send(self, signal_number: int) -> int:
        """Sends a signal; returns how the process ended."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal_number)
        return self.wait()

    def wait(self) -> int:
        """Exit code, or minus the signal that killed it."""
        self._process.join(timeout=120)
        assert self._process.exitcode is not None, "it does not end"
        return self._process.exitcode
