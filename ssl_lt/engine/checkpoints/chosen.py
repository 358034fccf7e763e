"""Which weights of a run are evaluated, exported and started from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import from_plain
from ssl_lt.core.errors import CheckpointError
from ssl_lt.engine.checkpoints.checkpoint import (
    AVERAGE,
    Checkpoint,
    folder_of,
    load_checkpoint,
    newest_checkpoint,
)

Keep = Literal["last", "best"]
CHOICE = "choice.json"


@dataclass(frozen=True)
class Choice:
    """What a run that chooses by its validation images knows after a measurement.

    Attributes:
        keep: "best": the weights of the best epoch; "last": training stops by it and no more.
        measure: what is compared, such as "accuracy"; larger is better.
        value: the largest so far, at its first time.
        step, epoch: of that, the step as its checkpoint is named and the epoch counted from 1.
        waited: measurements since then.
        trained: epochs that have ended.
    """

    keep: Keep
    measure: str
    value: float
    step: int
    epoch: int
    waited: int
    trained: int


def write_choice(checkpoints: Path, choice: Choice | None) -> None:
    """Puts it beside the checkpoints; None: as if nothing had been measured.

    Raises:
        DiskError: the file cannot be written.
    """
    if choice is None:
        (checkpoints / CHOICE).unlink(missing_ok=True)
    else:
        write_text_atomically(checkpoints / CHOICE, json.dumps(asdict(choice)) + "\n")


def read_choice(checkpoints: Path) -> Choice | None:
    """What `write_choice` wrote; None where a run does not choose, or has not yet.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = checkpoints / CHOICE
    if not path.is_file():
        return None
    try:
        return from_plain(Choice, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def evaluated_stem(checkpoint: Checkpoint) -> str:
    """Of the tensors that are evaluated: the averaged weights, where the run has any."""
    return AVERAGE if AVERAGE in checkpoint.tensors else "model"


def evaluated_weights(checkpoints: Path) -> tuple[Path, int]:
    """File with the weights that a run is judged by, and their step.

    Of the newest valid checkpoint, or of the best epoch so far where the run keeps that one.

    Raises:
        CheckpointError: there is no checkpoint, or those that could be taken are damaged.
    """
    choice = read_choice(checkpoints)
    if choice is not None and choice.keep == "best":
        checkpoint: Checkpoint | None = load_checkpoint(folder_of(checkpoints, choice.step))
    else:
        checkpoint = newest_checkpoint(checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{checkpoints.parent}: has no checkpoint yet")
    stem = evaluated_stem(checkpoint)
    return folder_of(checkpoints, checkpoint.step) / f"{stem}.safetensors", checkpoint.step


def describe_weights(checkpoints: Path, *, epochs: int, averaged: str) -> str:
    """Such as "last epoch", or "epoch 10 of 20, chosen by accuracy on validation images (0.613)".

    Args:
        checkpoints: of the run.
        epochs: that were planned.
        averaged: what is added where the weights are averages; "" where they are not.

    Raises:
        CheckpointError: as `read_choice` says.
    """
    choice, told = read_choice(checkpoints), "last epoch"
    if choice is not None and choice.keep == "best":
        told = (
            f"epoch {choice.epoch} of {epochs}, chosen by {choice.measure} on validation images "
            f"({choice.value:.3f})"
        )
    elif choice is not None and choice.trained < epochs:
        told = f"epoch {choice.trained} of {epochs}, stopped early by {choice.measure}"
    return f"{told}, {averaged}" if averaged else told
