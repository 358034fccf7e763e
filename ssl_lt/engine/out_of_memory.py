"""Memory that ran out: recognised, and said with what needs less of it."""

from __future__ import annotations

import torch
from accelerate.utils.memory import should_reduce_batch_size

from ssl_lt.core.errors import OutOfMemoryError, first_line
from ssl_lt.core.processes.distributed import world_size


def is_out_of_memory(error: BaseException) -> bool:
    """True for what a device, the allocator of a CPU, NumPy or Python raises without memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, Exception) and should_reduce_batch_size(error)


def out_of_memory(
    error: BaseException, *, step: int | None = None, batch_size: int | None = None
) -> OutOfMemoryError:
    """The error in one line: what there was too much of, and the flags that ask for less.

    Args:
        error: one that `is_out_of_memory`.
        step: the training step under way, if any.
        batch_size: of the training, over all processes.
    """
    reason = first_line(error).split(". ")[0].rstrip(".")
    if step is None:
        return OutOfMemoryError(f"out of memory: {reason}; --batch-size: a smaller one needs less")
    return OutOfMemoryError(
        f"step {step}: out of memory with --batch-size {batch_size} on {world_size()} "
        f"process{'es' * (world_size() > 1)}: {reason}; a new run with a smaller --batch-size, and "
        "more --accumulate-steps for as many images a step, needs less; the newest checkpoint stays"
    )
