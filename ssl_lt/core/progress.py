"""How far a long loop has come: a bar on a terminal, lines elsewhere, nothing in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.processes.distributed import rank

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 60.0
_WITHOUT_LINES: ContextVar[bool] = ContextVar("without_lines", default=False)


@contextmanager
def bars_alone() -> Iterator[None]:
    """In this context progress is said on a terminal or not at all."""
    token = _WITHOUT_LINES.set(True)
    try:
        yield
    finally:
        _WITHOUT_LINES.reset(token)


class ProgressBar(Progress):
    """A bar on stderr, where that is a terminal of rank 0, else a line a minute; a context.

    Args:
        label: what is done, as in "training".
        total: steps that there are.
        first_step: steps that are done already.
        transient: nothing of the bar stays.
    """

    def __init__(
        self, label: str, total: int, *, first_step: int = 0, transient: bool = False
    ) -> None:
        is_hidden = rank() > 0 or not sys.stderr.isatty()
        super().__init__(
            TextColumn(label),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Terminal(stderr=True, quiet=rank() > 0 or (is_hidden and _WITHOUT_LINES.get())),
            transient=transient,
            disable=is_hidden,
        )
        self._bar = self.add_task(label, total=total, completed=first_step, note="")
        self._label, self._total, self._first_step = label, total, first_step
        self._started_at = self._last_line = time.monotonic()

    def show(self, step: int, note: str = "") -> None:
        """So many steps are done; the note stands beside the bar, or behind the line."""
        self.update(self._bar, completed=step, note=note)
        now = time.monotonic()
        if self.disable and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = (now - self._started_at) / max(1, step - self._first_step)
            left = timedelta(seconds=round(rate * (self._total - step)))
            self.say(f"{self._label}: {step:,} of {self._total:,}, {left} left  {note}".rstrip())

    def say(self, text: str) -> None:
        """A line that stays, above the bar; without one, too."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def track(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """The items, while stderr says how many of them are done: rank 0's, for all do the same.

    Args:
        items: each of them is a step.
        total: how many there will be.
        label: what is done, as in "looking at training images".
    """
    with ProgressBar(label, total, transient=True) as bar:
        for done, item in enumerate(items, start=1):
            yield item
            bar.show(done)
