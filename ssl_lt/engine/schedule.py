"""Learning rate as a function of the optimiser step; there is no scheduler to save or to step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option


@dataclass(frozen=True)
class ScheduleOptions:
    """Linear warm-up, then cosine or steps."""

    schedule: Literal["cosine", "step", "constant"] = option("cosine", page="all")
    """Course of the learning rate after the warm-up."""
    warmup_epochs: float = 1.0
    """Epochs over which the learning rate rises linearly from 0 to its peak."""
    final_lr_fraction: float = option(0.0, page="all")
    """Learning rate at the end of the cosine, as a fraction of the peak."""
    milestones: tuple[float, ...] = option((0.8, 0.9), page="all")
    """Fractions of the training at which the step schedule multiplies the learning rate."""
    step_factor: float = option(0.1, page="all")
    """Factor of the step schedule at each milestone."""

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ConfigError(f"--warmup-epochs: {self.warmup_epochs} is negative")
        check_range(self, {"final_lr_fraction": "[0, 1]", "step_factor": "(0, 1]"})
        if any(not 0 < m <= 1 for m in self.milestones):
            raise ConfigError(f"--milestones: {self.milestones} are not all in (0, 1]")

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        found = {} if self.schedule == "cosine" else {"final-lr-fraction": "--schedule cosine"}
        if self.schedule != "step":
            found |= dict.fromkeys(("milestones", "step-factor"), "--schedule step")
        return found


def lr_multiplier(
    step: int, options: ScheduleOptions, *, total_steps: int, steps_per_epoch: int
) -> float:
    """Factor on the peak learning rate.

    Args:
        step: optimiser steps already taken, from 0; the number of processes plays no part.
        options: the shape.
        total_steps: of the whole training.
        steps_per_epoch: optimiser steps an epoch.

    Returns:
        (step + 1) / warmup_steps during the warm-up; then 0.5 (1 + cos(pi t)) between 1 and the
        final fraction, t in [0, 1] the share of the remaining steps taken; or step_factor to the
        number of milestones passed.
    """
    warmup_steps = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "step":
        return options.step_factor ** sum(step >= m * total_steps for m in options.milestones)
    t = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    low = options.final_lr_fraction
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * t))
