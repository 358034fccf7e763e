"""Processes that decode images, and how it looks when one of them is lost."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import get_worker_info

from ssl_lt.core.errors import DataError

SHARED_MEMORY = Path("/dev/shm")  # through which workers hand over what they have made


@dataclass(frozen=True)
class Workers:
    """Processes that decode images.

    Attributes:
        number: of them; 0: the main process decodes.
        timeout_seconds: how long a batch of theirs is waited for, the first one with their start;
            0: for ever.
    """

    number: int
    timeout_seconds: int = 300


def hand_over(fetched: tuple[Tensor, ...]) -> None:
    """Moves what a worker has made to the shared memory through which the main process gets it.

    Left to torch, this happens in a thread whose errors nobody hears of, and the main process would
    wait until it gives up.

    Raises:
        DataError: the shared memory is full.
    """
    if get_worker_info() is None:
        return
    try:
        for tensor in fetched:
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        raise DataError(no_shared_memory()) from error


def no_shared_memory() -> str:
    """One line that says how much there is, and what helps."""
    size = ""
    if SHARED_MEMORY.is_dir():
        total, _, free = shutil.disk_usage(SHARED_MEMORY)
        size = f", {free >> 20:,} of {total >> 20:,} MiB free"
    return (
        f"{SHARED_MEMORY}: too small for the batches of the workers{size}: start the container "
        "with --shm-size=8g (or --ipc=host), or give --num-workers 0 or fewer"
    )


def is_lost_worker(error: BaseException) -> bool:
    """True for what torch raises when a worker died, be it in the middle of a step, or is silent.

    A worker that dies while it hands over a batch shows as a connection that was reset.
    """
    return isinstance(error, ConnectionError | EOFError) or (
        isinstance(error, RuntimeError) and str(error).startswith("DataLoader ")
    )


def lost_worker(error: BaseException, *, awaited: str = "") -> DataError:
    """The error in one line.

    Args:
        error: one that `is_lost_worker`.
        awaited: the images that were waited for, where it is known.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    if "Bus error" in said:  # what lies beyond the end of a full shared memory
        return DataError(no_shared_memory())
    place = f"--num-workers: {f'waiting for {awaited}: ' * bool(awaited)}"
    if "timed out" in said:
        return DataError(f"{place}{said} (--worker-timeout)")
    return DataError(f"{place}a worker died; where memory ran out, fewer need less: {said}")
