"""What a fine-tuning takes where nothing was asked for: it depends on what it starts from.

Good features need small steps, and fewer of them, and a network that was drawn needs large ones.
Where there are few images an epoch is a handful of steps, so epochs are added up to a floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ssl_lt.runs.config.finetune import AnyFinetuneConfig

Start = Literal["scratch", "run", "released"]
# Optimiser steps that the default number of epochs is raised to.
MIN_STEPS = 300


@dataclass(frozen=True)
class Usual:
    """Of one kind of start.

    Attributes:
        lr: peak learning rate of SGD.
        epochs: passes over the training set, where they are `MIN_STEPS` steps or more.
        batch_norm: of `--batch-norm`.
    """

    lr: float
    epochs: int
    batch_norm: Literal["update", "keep"]


USUAL: dict[Start, Usual] = {
    "scratch": Usual(0.1, 20, "update"),
    "run": Usual(0.03, 20, "update"),
    "released": Usual(0.01, 8, "keep"),
}


def with_defaults(
    config: AnyFinetuneConfig, start: Start, *, steps_per_epoch: int
) -> AnyFinetuneConfig:
    """The configuration with values where it says `auto` or nothing.

    Args:
        config: as it was asked for.
        start: what the backbone starts from.
        steps_per_epoch: optimiser steps.
    """
    usual, fit = USUAL[start], config.fit
    if fit.epochs is None:
        fit = replace(fit, epochs=max(usual.epochs, -(-MIN_STEPS // steps_per_epoch)))
    if config.optim.lr is None:
        config = replace(config, optim=replace(config.optim, lr=usual.lr))
    if config.batch_norm == "auto" and config.tune == "all":
        config = replace(config, batch_norm=usual.batch_norm)
    return replace(config, fit=fit)
