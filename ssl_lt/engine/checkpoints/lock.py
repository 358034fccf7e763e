"""One run folder, one run: a lock that the system lifts when its holder dies.

The lock is flock(2) on `RUN/lock`, by way of filelock, which also keeps forked loader workers from
holding it longer than the run. It goes with the process, however that ends, so that a file left
behind by a dead run means nothing and nobody has to guess from its content, which only names the
holder for messages.

On NFS Linux makes it a lock of the server: it holds between nodes, and after the death of a whole
node it is lifted when the server gives that node up (about a minute and a half). A mount without
locks (`nolock`, Lustre without `flock`) refuses, or keeps nodes apart only from themselves: the
first is said in a warning, the second cannot be seen.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from ssl_lt.core.errors import ConfigError, DiskError, UserError
from ssl_lt.core.processes.distributed import gather_objects, rank
from ssl_lt.engine.checkpoints.run_folder import RunFolder

_NO_LOCKS_HERE = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def run_lock(folder: RunFolder | None) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile; may be taken again by the process that has it.

    Rank 0 takes it, and all ranks raise where it cannot.

    Args:
        folder: that exists; None: of a run that has none yet, which nobody can share.

    Raises:
        ConfigError: another process holds it; names the lock file, the process and its host.
        DiskError: the folder cannot be written.
    """
    if folder is None:
        yield
        return
    lock = FileLock(
        folder.lock,
        blocking=False,
        preserve_lock_file=True,
        on_acquired=_write_holder,
        is_singleton=True,
    )
    problem = gather_objects(_acquire(lock, folder) if rank() == 0 else None)[0]
    if problem is not None:
        raise problem
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, folder: RunFolder) -> UserError | None:
    """What is in the way, for all ranks to raise."""
    try:
        lock.acquire()
    except Timeout:
        return ConfigError(
            f"{folder.path}: {_holder(folder)} is at work in this run (lock file {folder.lock}); "
            "wait for it or end it, or start another run"
        )
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            return DiskError(f"{folder.lock}: cannot be written: {error.strerror or error}")
        print(
            f"warning: {folder.lock}: this file system has no locks; a second run in the same "
            "folder would not be noticed",
            file=sys.stderr,
        )
    return None


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _holder(folder: RunFolder) -> str:
    """As the holder wrote it: "process 123 on HOST"."""
    return folder.lock.read_text(errors="replace") or "another process"
