"""Choosing an epoch, and when to stop, by what is measured between epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ssl_lt.core.disk.plain import from_plain
from ssl_lt.core.errors import CheckpointError
from ssl_lt.core.types import Epoch
from ssl_lt.engine.checkpoints.chosen import Choice
from ssl_lt.engine.plan import FitOptions


class Selection:
    """Follows one number from measurement to measurement; the same on every process.

    Args:
        options: whether the best epoch is kept, and how long to wait for a better one.
        measure: name of the number among what is measured; larger is better.

    Attributes:
        choice: what is known; None before the first measurement.
    """

    def __init__(self, options: FitOptions, *, measure: str) -> None:
        self.options, self.measure = options, measure
        self.choice: Choice | None = None

    @property
    def is_asked(self) -> bool:
        """Something depends on it."""
        return self.options.selects

    @property
    def kept_step(self) -> int | None:
        """Of the checkpoint that is not to be removed."""
        keeps = self.choice is not None and self.choice.keep == "best"
        return self.choice.step if self.choice is not None and keeps else None

    @property
    def has_waited_enough(self) -> bool:
        """Training is over: the last `--early-stop` measurements brought nothing better."""
        limit = self.options.early_stop
        return bool(limit) and self.choice is not None and self.choice.waited >= limit

    def observe(self, line: Mapping[str, Any], *, step: int, epoch: Epoch) -> bool:
        """Takes in what was measured after an epoch; False where the number is not in it."""
        if not self.is_asked or self.measure not in line:
            return False
        value, before, trained = line[self.measure], self.choice, epoch.number + 1
        if before is None or value > before.value:
            keep = self.options.keep
            self.choice = Choice(keep, self.measure, value, step, trained, 0, trained)
        else:
            self.choice = replace(before, waited=before.waited + 1, trained=trained)
        return True

    def state(self) -> dict[str, Any] | None:
        """For a checkpoint."""
        return None if self.choice is None else asdict(self.choice)

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Back to what was known when a checkpoint was written.

        Raises:
            CheckpointError: the checkpoint holds something else.
        """
        try:
            self.choice = None if state is None else from_plain(Choice, state)
        except ValueError as error:
            raise CheckpointError(f"checkpoint whose choice cannot be read: {error}") from error
