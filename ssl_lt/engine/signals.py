"""SIGTERM and SIGINT end a run after the step that is under way, with its state saved.

So does a pipe that nobody reads any more. In a thread of a program, signals are the program's.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class StopRequest:
    """Context in which a signal asks for a stop; the first one counts, more change nothing.

    Attributes:
        signal_number: the signal received, 0 while there is none.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is not threading.main_thread():
            return self  # Python lets only the main thread handle signals
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def ask(self, number: int) -> None:
        """Asks as a signal of this number would."""
        self.signal_number = self.signal_number or number

    @contextmanager
    def if_nobody_reads(self) -> Iterator[None]:
        """A pipe that was closed on the other side asks for a stop, so that the state is saved."""
        try:
            yield
        except BrokenPipeError:
            self.ask(signal.SIGPIPE)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A second one while the state is being saved changes nothing: the save ends by itself.
        self.ask(number)


class Stopped(Exception):  # noqa: N818  (it is no error: the run can be resumed)
    """Training ended early on request; the process exits with 128 + the signal."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.exit_code = 128 + signal_number
