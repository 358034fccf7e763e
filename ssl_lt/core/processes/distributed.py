"""The few things that N processes must do to give what one process gives.

With one process, or none initialised, every function is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process; methods never ask."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _all_gather(out: Tensor, rows: Tensor) -> None:
    """Fills (world_size * B, ...) with the (B, ...) of all ranks."""
    if hasattr(dist, "all_gather_single"):
        dist.all_gather_single(out, rows)
    else:  # its name before torch 2.14
        dist.all_gather_into_tensor(out, rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = rows.shape[0]
        out = rows.new_empty((world_size() * rows.shape[0], *rows.shape[1:]))
        _all_gather(out, rows.contiguous())
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # Every rank's loss sees these rows: their gradients add up before the slice is taken. In a
        # copy, since what else the loss adds to the rows may be given the same tensor.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        start = rank() * ctx.num_rows
        return grad[start : start + ctx.num_rows]


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks, in rank order, with gradient.

    Each rank's loss is a mean over its own rows and DDP averages over ranks, so the sum taken in
    the backward pass gives exactly the gradient of one process with the whole batch.

    Args:
        rows: (B, ...), the same B on every rank.

    Returns:
        (world_size * B, ...); `rows` itself with one process.
    """
    if world_size() == 1:
        return rows
    return cast(Tensor, _GatherRows.apply(rows))


def own_rows(num_rows: int, *, device: torch.device) -> Tensor:
    """(num_rows,) int64: where this rank's rows stand in what `gather_rows` returns."""
    return torch.arange(num_rows, device=device) + rank() * num_rows


def all_true(flag: Tensor) -> Tensor:
    """Scalar bool: true if `flag` is true on every rank."""
    if world_size() == 1:
        return flag
    votes = flag.to(torch.int32)
    dist.all_reduce(votes, op=dist.ReduceOp.MIN)
    return votes.bool()


def mean_over_ranks(values: Tensor) -> Tensor:
    """Element-wise mean over ranks, without gradient."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def gather_objects(value: T) -> list[T]:
    """Plain values of all ranks, in rank order; slow, and for the few moments outside the steps."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def from_first_rank(make: Callable[[], Tensor], *, like: Tensor) -> Tensor:
    """What rank 0 makes, on every rank; the others wait for it.

    Args:
        make: asked on rank 0 alone.
        like: of the shape, type and device of what it makes.
    """
    if world_size() == 1:
        return make()
    values = make().contiguous() if rank() == 0 else torch.empty_like(like)
    dist.broadcast(values, src=0)
    return values


def wait_for_everyone() -> None:
    """Returns once every process has come here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def first_of_each_machine() -> Iterator[None]:
    """A block that rank 0 goes through first, then one process of each machine, then the rest.

    What one downloads the others find: on a disk that machines share and on disks of their own.
    """
    is_local_first = os.environ.get("LOCAL_RANK", "0") == "0"
    turn = 0 if rank() == 0 else 1 if is_local_first else 2
    for _ in range(turn):
        wait_for_everyone()
    yield
    for _ in range(2 - turn):
        wait_for_everyone()


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


def sum_over_ranks(values: Tensor) -> Tensor:
    """Element-wise sum over ranks, with gradient (each rank's loss may depend on the sum)."""
    if world_size() == 1:
        return values
    return cast(Tensor, _SumOverRanks.apply(values))
