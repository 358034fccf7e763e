"""Runs a function on several gloo processes, so that a test can compare them with one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.forkserver import CONTEXT

NUM_RANKS = 2


def _one_rank(
    rank: int, number: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=number
    )
    try:
        torch.save(function(rank, *args), Path(folder) / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


def run_on_two(function: Callable[..., Any], *args: Any) -> list[Any]:
    """`run_on` with two processes."""
    return run_on(NUM_RANKS, function, *args)


def run_on(number: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function(rank, *args)` returns on each of some gloo processes, in rank order.

    Args:
        number: of processes.
        function: at the top level of an importable module, because the processes have to find it.
        args: tensors and plain values.

    Returns:
        One result a rank: tensors, numbers, strings, and lists, tuples and dicts of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _one_rank,
            (number, folder, function, args),
            nprocs=number,
            daemon=True,
            start_method=CONTEXT.get_start_method(),
        )
        return [torch.load(Path(folder) / f"{r}.pt") for r in range(number)]
