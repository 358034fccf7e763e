"""The processes of one run without a launcher, so that a test can break a single one of them."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch.distributed as dist

from tests.faults.process import _run
from tests.forkserver import CONTEXT


def _one_rank(environment, folder, verb, words, log, fault):
    os.environ.update(environment)
    if fault is not None:
        fault()
    try:
        _run(folder, verb, words, log)
    except Exception:
        with Path(log).open("a") as file:
            traceback.print_exc(file=file)
        sys.exit(1)


class Ranks:
    """`ssl-lt VERB WORDS...` as two processes on this machine.

    Args:
        folder: they work in.
        words: of all processes.
        own: words that one process has besides.
        faults: what one process does before the command: a function at the top of a module.
    """

    started: ClassVar[list[Ranks]] = []

    def __init__(
        self,
        folder: Path,
        verb: str,
        *words: str,
        own: Mapping[int, list[str]] | None = None,
        faults: Mapping[int, Callable[[], None]] | None = None,
        number: int = 2,
    ) -> None:
        # As torchrun does it: the processes meet in a store that outlives each of them.
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        stamp = time.monotonic_ns()
        self.logs = [folder / f"{stamp}-{rank}.log" for rank in range(number)]
        self._processes = []
        for rank, log in enumerate(self.logs):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(number),
                "LOCAL_WORLD_SIZE": str(number),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self._store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": "0",
                "OMP_NUM_THREADS": "1",
            }
            every = [*words, *(own or {}).get(rank, [])]
            args = (environment, str(folder), verb, every, str(log), (faults or {}).get(rank))
            self._processes.append(CONTEXT.Process(target=_one_rank, args=args))
        for process in self._processes:
            process.start()
        self.started.append(self)

    def wait(self, rank: int, *, seconds: float = 120) -> int:
        """Exit code of one process, or minus the signal that killed it."""
        self._processes[rank].join(timeout=seconds)
        code = self._processes[rank].exitcode
        assert code is not None, f"process {rank} does not end: {self.said(rank)}"
        return code

    def codes(self) -> list[int]:
        """Of all processes."""
        return [self.wait(rank) for rank in range(len(self._processes))]

    @classmethod
    def end_all(cls) -> None:
        """Kills what is left of all: a test that failed need not wait for a process that hangs."""
        for ranks in cls.started:
            for process in ranks._processes:
                process.kill()
                process.join()

    def said(self, rank: int) -> str:
        """What one process wrote, to stdout and stderr."""
        return self.logs[rank].read_text() if self.logs[rank].is_file() else ""

    def errors(self) -> list[str]:
        """All lines of all processes that begin with `error: `."""
        lines = [line for rank in range(len(self.logs)) for line in self.said(rank).splitlines()]
        return [line for line in lines if line.startswith("error: ")]
