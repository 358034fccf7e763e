"""What a fine-tuning takes where nothing was asked for: it depends on what it starts from.

Good features need small steps, and fewer of them, and a network that was drawn needs large ones.
Where there are few images an epoch is a handful of steps, so epochs are added up to a floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ssl_lt.runs.config.budget import Start
from ssl_lt.runs.config.finetune import AnyFinetuneConfig

# Optimiser steps that the default number of epochs is raised to.
MIN_STEPS = 300


@dataclass(frozen=True)
class Usual:
    """Of one kind of start.

    Attributes:
        lr: peak learning rate of SGD.
        epochs: passes over the training set, where they are `MIN_STEPS` steps or more.
        batch_norm: of `--batch-norm`.
        clip_grad_norm: of the gradient; a probe on features of small spread has large weights,
            which multiply the gradient of the backbone.
    """

    lr: float
    epochs: int
    batch_norm: Literal["update", "keep"]
    clip_grad_norm: float | None = None


USUAL: dict[Start, Usual] = {
    "scratch": Usual(0.1, 20, "update"),
    "run": Usual(0.03, 20, "update", clip_grad_norm=5.0),
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
    if config.optim.clip_grad_norm is None:
        config = replace(config, optim=replace(config.optim, clip_grad_norm=usual.clip_grad_norm))
    if config.batch_norm == "auto" and config.tune == "all":
        config = replace(config, batch_norm=usual.batch_norm)
    return replace(config, fit=fit)


def as_stored(config: AnyFinetuneConfig, stored: AnyFinetuneConfig) -> AnyFinetuneConfig:
    """The configuration with the values that were found when the run began.

    Args:
        config: of a run that goes on; as a member of a series it may leave values open.
        stored: in the run's own folder.
    """
    return replace(
        config,
        fit=replace(config.fit, epochs=stored.fit.epochs),
        optim=replace(config.optim, lr=stored.optim.lr, clip_grad_norm=stored.optim.clip_grad_norm),
        batch_norm=stored.batch_norm,
    )


def check_epochs(config: AnyFinetuneConfig) -> None:
    """Raises ConfigError for epochs, where they are known, that are too few for the loss."""
    check = getattr(config.options, "check_epochs", None)
    if check is not None and config.fit.epochs is not None:
        check(config.fit.epochs)
