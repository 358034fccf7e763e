"""Batches that loader workers made, on their way to the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from ssl_lt.core.errors import DataError
from ssl_lt.core.random import row_and_draw
from ssl_lt.core.types import Batch

# Images, labels and drawn rows of a batch.
HostBatch = tuple[Tensor, Tensor, Tensor]
# Or the error that came in its place.
Fetched = HostBatch | DataError
Item = TypeVar("Item")


def on_device(fetched: Iterable[Fetched], *, device: torch.device) -> Iterator[Batch]:
    """Batches on a device, in order.

    On CUDA each is sent from pinned memory, on a stream of its own, before the one in front of it
    is handed out, and so travels while the device works; that takes the memory of one more batch.
    Not run on a GPU yet. On other devices batches are sent as they come.

    Raises:
        DataError: the one that came in place of a batch, after all batches in front of it.
    """
    if device.type == "cuda":
        yield from _sent_ahead(fetched, device=device)
        return
    for batch in fetched:
        yield _batch(_sent(_no_error(batch), device=device))


def _sent_ahead(fetched: Iterable[Fetched], *, device: torch.device) -> Iterator[Batch]:
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(batch: Fetched) -> tuple[HostBatch, torch.cuda.Event] | DataError:
        if isinstance(batch, DataError):
            return batch
        with torch.cuda.stream(copying):
            return _sent(batch, device=device), copying.record_event()

    for batch in one_ahead(map(send, fetched)):
        parts, arrived = _no_error(batch)
        computing = torch.cuda.current_stream(device)
        computing.wait_event(arrived)
        for part in parts:
            # Else its memory, which belongs to the other stream, could be filled anew too early.
            part.record_stream(computing)
        yield _batch(parts)


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each handed out once the one after it is there."""
    return (item for item, _ in pairwise(chain[Any](items, (None,))))


def _no_error(item: Item | DataError) -> Item:
    if isinstance(item, DataError):
        # A new error: raising the one this frame holds would tie both into a cycle, and a loader
        # that the garbage collector finds, instead of being released, waits 5 s for its workers.
        raise DataError(str(item))
    return item


def _sent(parts: HostBatch, *, device: torch.device) -> HostBatch:
    images, labels, drawn = (part.to(device, non_blocking=True) for part in parts)
    return images, labels, drawn


def _batch(parts: HostBatch) -> Batch:
    images, labels, drawn = parts
    index, draw = row_and_draw(drawn)
    return Batch(images=images, labels=labels, index=index, draw=draw)
