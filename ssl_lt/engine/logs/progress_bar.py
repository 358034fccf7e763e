"""What a person sees while a run goes on: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Loss, images/s and time left, on rank 0."""

    def __init__(self, total_steps: int, *, first_step: int, is_main: bool) -> None:
        self._console = Console(stderr=True, quiet=not is_main)
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (is_main and sys.stderr.isatty()),
        )
        self._task = self._progress.add_task(
            "training", total=total_steps, completed=first_step, note=""
        )

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def advance(self, step: int, loss: float | None, images_per_second: float) -> None:
        """One step is done; `loss` is the one logged last."""
        shown = "" if loss is None else f"loss {loss:.4f}"
        note = f"{shown}  {images_per_second:.0f} images/s"
        self._progress.update(self._task, completed=step, note=note)

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
