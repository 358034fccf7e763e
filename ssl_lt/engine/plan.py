"""What the loop is told: options, and what to do between epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Effect, option
from ssl_lt.core.precision import Precision
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch
from ssl_lt.engine.optim import LrScale, OptimOptions, same_rate
from ssl_lt.engine.schedule import ScheduleOptions


@dataclass(frozen=True)
class FitOptions:
    """How long and how precisely to train, and what to keep."""

    epochs: int | None = 20
    """Passes over the training set. Default of fine-tuning: 20, or 8 from released weights, and as
    many more as make 300 optimiser steps."""
    batch_size: int = 128
    """Images in a batch, over all processes together."""
    accumulate_steps: int = option(1, page="all")
    """Number of batches whose gradients are added up for one optimiser step. Batches that are left
    over at the end of an epoch are left out, others each time."""
    mixed_precision: Precision = option("auto", page="all")
    """Arithmetic of the forward pass: bf16, fp16 (CUDA alone; the loss is scaled), no (fp32), or
    auto (bf16 if the device has it in hardware)."""
    drop_path: float = option(0.0, page="all")
    """Rate of stochastic depth at the last block of a backbone of timm's that has it
    (drop_path_rate; 0 = off)."""
    grad_checkpointing: bool = option(default=False, effect=Effect.RUN, page="all")
    """Compute the activations of the backbone again in the backward pass: a step needs less memory
    and takes about a third longer. No number changes."""
    compile: bool = option(default=False, effect=Effect.RUN, page="all")
    """Compile the training step with torch.compile. The first step takes a minute or two."""
    log_every: int = option(10, page="all", group="monitoring")
    """Write a line of metrics.jsonl every N steps, with the averages since the line before, and at
    the end of each epoch."""
    checkpoint_every: int = option(0, effect=Effect.RUN, page="all", group="run")
    """Also save a checkpoint every N steps (0 = only at the end of each epoch)."""
    keep_checkpoints: int = option(2, effect=Effect.RUN, page="all", group="run")
    """Number of checkpoints to keep, at least 2. With --keep best the best is kept as well."""
    dist_timeout: int = option(600, effect=Effect.RUN, page="all", group="run")
    """Seconds that the processes of a run wait for each other, for example while the first one
    downloads data."""
    keep: Literal["last", "best"] = option("last", page="all", group="monitoring")
    """Epoch whose weights are evaluated and exported: the last, or the one with the best accuracy
    on the validation images. The test set is never looked at for it."""
    early_stop: int = option(0, page="all", group="monitoring")
    """Stop after N measurements in a row without a better accuracy on the validation images (0 =
    off). The learning rate is planned for all --epochs."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = option(
        (), effect=Effect.RUN, page="all", group="monitoring"
    )
    """Also log to these experiment trackers."""

    def __post_init__(self) -> None:
        check_range(self, {"drop_path": "[0, 1)"})
        if self.grad_checkpointing and self.compile:
            raise ConfigError("--grad-checkpointing: does not go with --compile; leave one out")
        leasts = {"epochs": 1, "accumulate_steps": 1, "log_every": 1, "keep_checkpoints": 2}
        check_at_least(self, {**leasts, "checkpoint_every": 0, "dist_timeout": 1, "early_stop": 0})

    @property
    def num_epochs(self) -> int:
        """`epochs`, once they are known."""
        assert self.epochs is not None
        return self.epochs

    @property
    def selects(self) -> bool:
        """Something is chosen by what is measured between epochs."""
        return self.keep == "best" or self.early_stop > 0


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
class FitSettings:
    """Everything the loop reads of the configuration.

    Attributes:
        fit, optim, schedule: options.
        seed: of the run.
        lr_scale: name of a parameter -> factor on its learning rate.
        identity: of the run.
        measure: name of the number, among those measured between epochs, that the best epoch has
            the largest of.
        at_start: what was measured before the first step, which is the first line of the log.
        tail_classes: (C,) bool, the classes whose loss `optim.sam` is about; None: all.
    """

    fit: FitOptions
    optim: OptimOptions
    schedule: ScheduleOptions
    seed: int
    lr_scale: LrScale = same_rate
    identity: Identity = field(default_factory=Identity)
    measure: str = ""
    at_start: Mapping[str, float] = field(default_factory=dict)
    tail_classes: Tensor | None = None


# (unwrapped task, epoch just ended) -> numbers to log; every rank runs it and gets the same ones.
EndOfEpoch = Callable[[TrainTask, Epoch], Mapping[str, float]]
