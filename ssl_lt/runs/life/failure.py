"""How a command ends that cannot go on: one line, said by the process that failed first."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from datetime import timedelta
from typing import Any

from ssl_lt.core.errors import DiskError, DistributedError, UserError

# A launcher looks ten times a second which process has ended, and blames the first that it sees.
_LINGER_SECONDS = 2.0


class LostContactError(DistributedError):
    """Another process is gone or silent; why, it has said itself if it could."""


def as_user_error(error: Exception) -> UserError | None:
    """The error as one that a user can mend; None of a fault of the program."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"{error.filename or 'the output'}: cannot be written: {error.strerror}")
    # Here, because commands that need no torch should not wait for it to fail.
    from ssl_lt.data.loading.workers import is_lost_worker, lost_worker
    from ssl_lt.engine.out_of_memory import is_out_of_memory, out_of_memory

    if is_out_of_memory(error):
        return out_of_memory(error)
    if _is_lost_contact(error):
        return _lost_contact(error)
    if is_lost_worker(error):
        return lost_worker(error)
    return None


def say(error: UserError) -> None:
    """Prints the error, if no other process of the run has failed before this one."""
    is_first = is_first_to_fail()
    if os.environ.get("SSL_LT_DEBUG"):
        traceback.print_exception(error)
    if is_first:
        print(f"error: {error}", file=sys.stderr, flush=True)
    if not is_first or isinstance(error, LostContactError):
        time.sleep(_LINGER_SECONDS)


def is_first_to_fail() -> bool:
    """True in the first process of a run that asks, and where there is nobody to ask."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    try:
        store = _store(timeout_seconds=5)
        is_first = bool(store.add(_key("failed"), 1) == 1)
        store.set(_key("begin"), "failed")
        return is_first
    except (KeyError, RuntimeError):
        return True


def wait_for_all(timeout_seconds: int) -> None:
    """Until every process has come this far, or one has failed on its way here.

    Without it, the others would wait for one with a wrong flag until they give up.

    Raises:
        LostContactError: one has failed; why, it has said.
        torch.distributed.DistStoreError: one did not come in time.
    """
    number = int(os.environ.get("WORLD_SIZE", "1"))
    # Elsewhere there is no store yet: the first process will make it.
    if number == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    store = _store(timeout_seconds=timeout_seconds)
    if store.add(_key("here"), 1) == number:
        store.set(_key("begin"), "yes")
    if store.get(_key("begin")) == b"failed":
        raise LostContactError("another process has failed before the run began")


def _store(*, timeout_seconds: int) -> Any:
    """The store that the processes have found each other by; torchrun keeps it alive."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=False, timeout=timedelta(seconds=timeout_seconds)
    )


def _key(name: str) -> str:
    return f"ssl_lt/{name}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _is_lost_contact(error: Exception) -> bool:
    """True for what a collective raises when another process is gone or silent."""
    import torch.distributed as dist

    # Gloo, which connects CPUs, raises bare RuntimeErrors that name its own source file.
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo/" in str(error)
    )


def _lost_contact(error: Exception) -> LostContactError:
    from ssl_lt.core.processes.distributed import rank

    reason = " ".join(str(error).split())
    lost = "gave no answer within --dist-timeout" if "imed out" in reason else "has ended"
    return LostContactError(f"process {rank()} waited for another one, which {lost}: {reason}")
