"""Runs a function on two gloo processes, so that a test can compare them with one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

NUM_RANKS = 2


def _one_rank(rank: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_RANKS
    )
    try:
        torch.save(function(rank, *args), Path(folder) / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


def run_on_two(function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function(rank, *args)` returns on each of two gloo processes, in rank order.

    Args:
        function: at the top level of an importable module, because the processes are spawned.
        args: tensors and plain values.

    Returns:
        One result a rank: tensors, numbers, strings, and lists, tuples and dicts of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_one_rank, (folder, function, args), nprocs=NUM_RANKS)
        return [torch.load(Path(folder) / f"{r}.pt") for r in range(NUM_RANKS)]
