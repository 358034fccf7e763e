"""Processes that decode images, and how it looks when one of them is lost."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_lt.core.errors import DataError


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
    place = f"--num-workers: {f'waiting for {awaited}: ' * bool(awaited)}"
    if "timed out" in said:
        return DataError(f"{place}{said} (--worker-timeout)")
    return DataError(f"{place}a worker died; where memory ran out, fewer need less: {said}")
