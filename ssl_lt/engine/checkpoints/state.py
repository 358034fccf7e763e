"""From a training to a checkpoint and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ssl_lt.core.errors import CheckpointError, DataError, DistributedError, shortened
from ssl_lt.core.processes.distributed import gather_objects, world_size
from ssl_lt.core.task import TrainTask
from ssl_lt.engine.averaging import WeightAverage, put
from ssl_lt.engine.checkpoints.checkpoint import (
    AVERAGE,
    Checkpoint,
    load_optimizer_state,
    optimizer_state,
)
from ssl_lt.engine.logs.metrics import MetricsLog
from ssl_lt.engine.plan import FitOptions, Identity
from ssl_lt.engine.selection import Selection

_STATE = {"optimizer", "summed_steps", "total_steps"}
_TENSORS = {"model", "optimizer", "memory", "sums"}


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds, where it lives while training."""

    task: TrainTask
    optimizer: torch.optim.Optimizer
    log: MetricsLog
    total_steps: int
    identity: Identity = field(default_factory=Identity)
    average: WeightAverage | None = None
    selection: Selection | None = None
    scaler: torch.amp.GradScaler | None = None
    surroundings: Mapping[str, Any] = field(default_factory=dict)

    def at(self, step: int) -> Checkpoint:
        """The state after `step` optimiser steps, as a checkpoint."""
        tensors, numbers = optimizer_state(self.optimizer)
        return Checkpoint(
            step=step,
            state={
                "identity": asdict(self.identity),
                "optimizer": numbers,
                "summed_steps": self.log.summed_steps,
                "total_steps": self.total_steps,
                **self.surroundings,
                "scaler": None if self.scaler is None else self.scaler.state_dict(),
                "choice": None if self.selection is None else self.selection.state(),
            },
            tensors={
                "model": self.task.state_dict(),
                "optimizer": tensors,
                "memory": self._memories(),
                "sums": self.log.sums,
                **self._average(),
            },
            kept_step=None if self.selection is None else self.selection.kept_step,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back as it was when the checkpoint was written, or nothing.

        Raises:
            CheckpointError: it is of another configuration, model or length of training; names
                the first options or tensors that differ, with both values or shapes.
            DataError: the training images are others.
        """
        state, tensors = checkpoint.state, checkpoint.tensors
        wanted = _TENSORS | self._average().keys()
        lacking = [*(_STATE - state.keys()), *(wanted - tensors.keys())]
        if lacking:
            raise CheckpointError(f"checkpoint without {', '.join(sorted(lacking))}")
        check_identity(state.get("identity", {}), self.identity)
        if state["total_steps"] != self.total_steps:
            raise CheckpointError(
                f"checkpoint of a training of {state['total_steps']} steps, this one has "
                f"{self.total_steps}: data, --batch-size, --epochs or --accumulate-steps differ"
            )
        for stem, own in ({"model": self.task.state_dict()} | self._average()).items():
            check_tensors(tensors[stem], own, of="model")
        check_tensors(tensors["memory"], self._memories(), of="memory of samples")
        check_tensors(tensors["optimizer"], self._slots(tensors["optimizer"]), of="optimiser")
        put(tensors["model"], into=self.task)
        if self.average is not None:
            self.average.restore(tensors[AVERAGE])
        for memory in self.task.memories():
            start = f"{memory.name}."
            own = {k[len(start) :]: v for k, v in tensors["memory"].items() if k.startswith(start)}
            memory.load_state_dict(own)
        load_optimizer_state(self.optimizer, tensors["optimizer"], state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.selection is not None:
            self.selection.restore(state.get("choice"))
        self.log.restore(tensors["sums"], state["summed_steps"], step=checkpoint.step)

    def _average(self) -> dict[str, Mapping[str, Tensor]]:
        return {} if self.average is None else {AVERAGE: self.average.tensors}

    def _memories(self) -> dict[str, Tensor]:
        return {
            f"{memory.name}.{key}": table
            for memory in self.task.memories()
            for key, table in memory.state_dict().items()
        }

    def _slots(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Where an optimiser's saved tensors belong: each has its parameter's shape, or none."""
        groups = self.optimizer.param_groups
        parameters = {str(i): p for i, p in enumerate(q for g in groups for q in g["params"])}
        slots = {}
        for key, value in saved.items():
            parameter = parameters.get(key.partition(".")[0])
            if parameter is not None:
                slots[key] = value if value.ndim == 0 else parameter
        return slots


def surroundings(fit: FitOptions, accelerator: Accelerator) -> dict[str, Any]:
    """What a number depends on to the last bit beside the configuration of a run."""
    return {
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "compile": fit.compile,
    }


def notes_on(checkpoint: Checkpoint, now: Mapping[str, Any]) -> Iterator[str]:
    """Why what follows is not the same to the last bit; what a checkpoint lacks is not compared.

    Args:
        checkpoint: that training goes on from.
        now: `surroundings`.
    """
    was = {name: checkpoint.state.get(name, value) for name, value in now.items()}
    changed = [name for name in now if was[name] != now[name]]
    for name in ("processes", "threads"):
        if name in changed:
            yield (
                f"note: {was[name]} {name} wrote this checkpoint and {now[name]} go on: equal up "
                "to rounding, not bit for bit"
            )
    if "precision" in changed:
        before, after = ("fp32" if a["precision"] == "no" else a["precision"] for a in (was, now))
        yield (
            f"note: the steps so far were taken in {before}, the next ones are in {after}, which "
            "is what --mixed-precision auto means here: similar, not equal"
        )
    if "compile" in changed:
        yield (
            "note: --compile was given or left out since this checkpoint: equal up to rounding, "
            "not bit for bit"
        )


def check_same_step(step: int) -> None:
    """Every process must go on from the same checkpoint; 0: from none.

    Raises:
        DistributedError: on all processes; names the first that differs.
    """
    first, *others = gather_objects(step)
    for number, other in enumerate(others, start=1):
        if other != first:
            raise DistributedError(
                f"newest checkpoint: step {first} in process 0 and {other} in process {number}; "
                "all must see the same run folder"
            )


def check_identity(was: Mapping[str, Any], now: Identity) -> None:
    """Refuses the checkpoint of another run; what only one of them knows is not compared.

    Raises:
        CheckpointError: names the first options that differ, with both values.
        DataError: the training images are others.
    """
    options = was.get("options", {})
    different = [
        f"--{name} {options[name]} (now {value})"
        for name, value in now.options.items()
        if name in options and options[name] != value
    ]
    if different:
        raise CheckpointError(
            f"checkpoint of another configuration: {shortened(different)}; was config.yaml edited?"
        )
    if now.data_sha256 and was.get("data_sha256", now.data_sha256) != now.data_sha256:
        raise DataError(
            "the training images are not those that this run was trained on, or the validation "
            "images are others: files were added, "
            "removed, renamed or changed, or split.json was replaced"
        )


def load_model_state(task: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Strictly: every tensor of the task, in its shape, or none.

    Raises:
        CheckpointError: as `check_tensors` says.
    """
    check_tensors(tensors, task.state_dict(), of="model")
    task.load_state_dict(tensors)


def check_tensors(saved: Mapping[str, Tensor], own: Mapping[str, Tensor], *, of: str) -> None:
    """Holds the tensors of a file against those they would replace.

    Raises:
        CheckpointError: names the first that are missing, unknown or misshaped, with shapes.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
    problems = [f"{n} {wanted[n]} is missing" for n in wanted if n not in shapes]
    problems += [f"{n} {shapes[n]} is unknown" for n in shapes if n not in wanted]
    problems += [
        f"{n} is {shapes[n]}, expected {wanted[n]}"
        for n in wanted
        if n in shapes and shapes[n] != wanted[n]
    ]
    if problems:
        raise CheckpointError(f"checkpoint of another {of}: {shortened(problems)}")
