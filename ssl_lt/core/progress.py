"""How far a long loop before or after training has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_lt.core.processes.distributed import rank

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 30.0


def track(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """The items, while stderr says how many of them are done: rank 0's, for all do the same.

    Args:
        items: each of them is a step.
        total: how many there will be.
        label: what is done, as in "looking at training images".
    """
    if rank() > 0:
        yield from items
        return
    if not sys.stderr.isatty():
        yield from _in_lines(items, total=total, label=label)
        return
    columns = (
        TextColumn(label),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total)


def _in_lines(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            print(f"{label}: {done:,} of {total:,}", file=sys.stderr, flush=True)
