"""From a training to a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.distributed import world_size
from ssl_lt.core.errors import CheckpointError
from ssl_lt.core.task import TrainTask
from ssl_lt.engine.checkpoint import Checkpoint, load_optimizer_state, optimizer_state
from ssl_lt.engine.log import MetricsLog


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds, where it lives while training."""

    task: TrainTask
    optimizer: torch.optim.Optimizer
    log: MetricsLog
    total_steps: int

    def at(self, step: int) -> Checkpoint:
        """The state after `step` optimiser steps, as a checkpoint."""
        tensors, numbers = optimizer_state(self.optimizer)
        memories = {
            f"{memory.name}.{key}": table
            for memory in self.task.memories()
            for key, table in memory.state_dict().items()
        }
        return Checkpoint(
            step=step,
            state={
                "optimizer": numbers,
                "summed_steps": self.log.summed_steps,
                "total_steps": self.total_steps,
                "processes": world_size(),
            },
            tensors={
                "model": self.task.state_dict(),
                "optimizer": tensors,
                "memory": memories,
                "sums": self.log.sums,
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back as it was when the checkpoint was written.

        Raises:
            CheckpointError: it is of another model or another length of training.
        """
        state, tensors = checkpoint.state, checkpoint.tensors
        if state["total_steps"] != self.total_steps:
            raise CheckpointError(
                f"checkpoint of a training of {state['total_steps']} steps, this one has "
                f"{self.total_steps}: data, --batch-size, --epochs or --accumulate-steps differ"
            )
        load_model_state(self.task, tensors["model"])
        for memory in self.task.memories():
            start = f"{memory.name}."
            own = {k[len(start) :]: v for k, v in tensors["memory"].items() if k.startswith(start)}
            memory.load_state_dict(own)
        load_optimizer_state(self.optimizer, tensors["optimizer"], state["optimizer"])
        self.log.restore(tensors["sums"], state["summed_steps"], step=checkpoint.step)


def load_model_state(task: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Strictly: every tensor of the task, in its shape.

    Raises:
        CheckpointError: names the first tensors that do not fit, with both shapes.
    """
    own = task.state_dict()
    problems = [f"{name} is missing" for name in own if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in own]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if problems:
        shown = ", ".join(problems[:5])
        raise CheckpointError(f"checkpoint of another model: {shown} ({len(problems)} in all)")
    task.load_state_dict(tensors)
