"""What the loop is told: options, and what to do between epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.precision import Precision
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch
from ssl_lt.engine.optim import LrScale, OptimOptions, same_rate
from ssl_lt.engine.schedule import ScheduleOptions


@dataclass(frozen=True)
class FitOptions:
    """How long, how precisely, and what is kept."""

    epochs: int = 20
    """Passes over the training set."""
    accumulate_steps: int = 1
    """Batches whose gradients add up to one optimiser step."""
    mixed_precision: Precision = "auto"
    """auto: bf16 where the device computes in it, fp32 elsewhere."""
    compile: bool = False
    """Compile the step: a minute or two of warm-up, then faster."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl, which hold the means since the one before; there is
    also one at the end of each epoch."""
    checkpoint_every: int = 0
    """Steps between two checkpoints beside the one at the end of each epoch; 0: none."""
    keep_checkpoints: int = 2
    """How many are kept, at least 2."""
    dist_timeout: int = 600
    """Seconds that processes wait for each other before they give up; the first may be waited for
    while it downloads."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log to tensorboard and/or wandb."""

    def __post_init__(self) -> None:
        leasts = {"epochs": 1, "accumulate_steps": 1, "log_every": 1, "keep_checkpoints": 2}
        check_at_least(self, {**leasts, "checkpoint_every": 0, "dist_timeout": 1})


@dataclass(frozen=True)
class Identity:
    """What a checkpoint must have in common with the run that takes it up.

    Attributes:
        options: flag -> value, of all that a weight depends on.
        data_sha256: of the training images, see `content_sha256`.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything the loop reads of the configuration.

    Attributes:
        fit, optim, schedule: options.
        seed: of the run.
        lr_scale: name of a parameter -> factor on its learning rate.
        identity: of the run.
    """

    fit: FitOptions
    optim: OptimOptions
    schedule: ScheduleOptions
    seed: int
    lr_scale: LrScale = same_rate
    identity: Identity = field(default_factory=Identity)


# (unwrapped task, epoch just ended) -> numbers to log; every rank runs it and gets the same ones.
EndOfEpoch = Callable[[TrainTask, Epoch], Mapping[str, float]]
