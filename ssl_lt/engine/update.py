"""One optimiser step: forward and backward of the accumulated batches, check, update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ssl_lt.core.processes.distributed import all_true, rank
from ssl_lt.core.random import seed_of
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch
from ssl_lt.engine.finite import MicroBatch, mean_of, not_finite
from ssl_lt.engine.optim import build_optimizer
from ssl_lt.engine.plan import FitSettings


class Update:
    """Takes batches and moves the weights.

    Args:
        task: whose parameters are moved, on its device.
        model: the task as Accelerate has prepared it.
        settings: optimiser, accumulation, seed.
        accelerator: of the run.

    Attributes:
        optimizer: over the task's trainable parameters.
    """

    def __init__(
        self, task: TrainTask, model: nn.Module, settings: FitSettings, accelerator: Accelerator
    ) -> None:
        self.task, self.model = task, model
        self.settings, self.accelerator = settings, accelerator
        self.optimizer = build_optimizer(task, settings.optim, lr_scale=settings.lr_scale)
        self.step_module = torch.compile(model) if settings.fit.compile else model

    def __call__(self, batches: Iterator[Batch], *, step: int, lr: float) -> Mapping[str, Tensor]:
        """The step that follows `step` others.

        Args:
            batches: the next ones are taken from it.
            step: optimiser steps already taken.
            lr: learning rate, before each group's own factor.

        Returns:
            Scalars to log, on the device.

        Raises:
            NumericError: as `fit` says.
        """
        # Dropout and the like draw from a stream that is a function of the step: nothing to save.
        torch.manual_seed(seed_of(self.settings.seed, step, rank()))
        seen = self._backward(islice(batches, self.settings.fit.accumulate_steps))
        loss, terms = mean_of(seen)
        gradients = [p.grad for p in self.task.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The one moment of a step at which the host waits for the device.
        if not all_true(torch.isfinite(loss) & torch.isfinite(norm)):
            raise not_finite(step + 1, seen, self.task)
        if (limit := self.settings.optim.clip_grad_norm) is not None:
            torch.nn.utils.clip_grads_with_norm_(self.task.parameters(), limit, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"loss": loss, "grad_norm": norm, **terms}

    def _backward(self, batches: Iterable[Batch]) -> list[MicroBatch]:
        """Adds the gradient of the mean loss; the last backward exchanges it between ranks."""
        accumulate = self.settings.fit.accumulate_steps
        seen = []
        for number, batch in enumerate(batches, start=1):
            is_last = number == accumulate
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                output = self.step_module(batch)
                self.accelerator.backward(output.loss / accumulate)
            detached = replace(output, loss=output.loss.detach())  # lets go of the graph
            seen.append(MicroBatch(batch.index, detached))
        return seen
