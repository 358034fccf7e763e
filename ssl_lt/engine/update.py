"""One optimiser step: forward and backward of the accumulated batches, check, update."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ssl_lt.core.processes.distributed import all_true, rank, world_size
from ssl_lt.core.random import seed_of
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, StepOutput
from ssl_lt.engine.allocator import keep_freed_memory
from ssl_lt.engine.finite import MicroBatch, mean_of, not_finite
from ssl_lt.engine.grad_checkpointing import keep_statistics_once
from ssl_lt.engine.optim import build_optimizer
from ssl_lt.engine.plan import FitSettings
from ssl_lt.engine.sharpness import PartialGradient, StepState, loss_of_classes, uphill
from ssl_lt.models.batch_norm import synchronised

LossOf = Callable[[StepOutput, Batch], Tensor]


def whole_loss(output: StepOutput, batch: Batch) -> Tensor:
    """The loss of a step as the task gives it."""
    return output.loss


def prepared(task: TrainTask, settings: FitSettings, accelerator: Accelerator) -> Update:
    """The updates of a task, which is on its device then, as `Update.task`."""
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    if world_size() > 1:
        task = synchronised(task, device=accelerator.device)
    if settings.fit.grad_checkpointing:
        keep_statistics_once(task.backbone)
    task = task.to(accelerator.device).to(memory_format=torch.channels_last)
    for memory in task.memories():
        memory.to(accelerator.device)
    with warnings.catch_warnings():
        # It proposes a setting under which buffers are sent when training starts; ours are
        # equal on all ranks.
        warnings.filterwarnings("ignore", message="`broadcast_buffers`", category=FutureWarning)
        model = accelerator.prepare_model(task)
    return Update(task, model, settings, accelerator)


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
        tail = settings.tail_classes
        self.tail_classes = None if tail is None else tail.to(accelerator.device)
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
        own = islice(batches, self.settings.fit.accumulate_steps)
        rho, seed = self.settings.optim.sam, seed_of(self.settings.seed, step, rank())
        # Dropout and the like draw from a stream that is a function of the step: nothing to save.
        torch.manual_seed(seed)
        seen = self._sharpness_aware(list(own), rho=rho, seed=seed) if rho else self._backward(own)
        loss, terms = mean_of(seen)
        scaler: torch.amp.GradScaler | None = self.accelerator.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.task.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The one moment of a step at which the host waits for the device.
        if not all_true(torch.isfinite(loss) & torch.isfinite(norm)):
            if scaler is None or not self._is_overflow(loss, scaler):
                raise not_finite(step + 1, seen, self.task)
            self.optimizer.zero_grad(set_to_none=True)
            scaler.update()  # to half the scale; the step is left out
            return {"loss": loss, "grad_norm": torch.zeros_like(norm), **terms}
        if (limit := self.settings.optim.clip_grad_norm) is not None:
            torch.nn.utils.clip_grads_with_norm_(self.task.parameters(), limit, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if scaler is not None:
            scaler.update()
        return {"loss": loss, "grad_norm": norm, **terms}

    def _is_overflow(self, loss: Tensor, scaler: torch.amp.GradScaler) -> bool:
        """A gradient in fp16 was too large for its scale, which a smaller scale mends."""
        return bool(all_true(torch.isfinite(loss))) and scaler.get_scale() > 1

    def _backward(self, batches: Iterable[Batch], loss_of: LossOf = whole_loss) -> list[MicroBatch]:
        """Adds the gradient of the mean loss; the last backward exchanges it between ranks."""
        accumulate = self.settings.fit.accumulate_steps
        seen = []
        for number, batch in enumerate(batches, start=1):
            is_last = number == accumulate
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                output = self.step_module(batch)
                self.accelerator.backward(loss_of(output, batch) / accumulate)
            losses = None if output.losses is None else output.losses.detach()
            # Lets go of the graph.
            detached = replace(output, loss=output.loss.detach(), losses=losses)
            seen.append(MicroBatch(batch.index, detached))
        return seen

    def _sharpness_aware(
        self, batches: Sequence[Batch], *, rho: float, seed: int
    ) -> list[MicroBatch]:
        """The gradient of SAM, or of ImbSAM where some classes are the tail; see `sharpness`.

        Batches that are accumulated count as one, and so do those of all ranks: the first gradient
        is exchanged, too. Statistics and memories are those of the first forward pass, and so is
        what is logged. The second pass sees the same views, dropout and memories.
        """
        tail = self.tail_classes
        parameters = [p for p in self.task.parameters() if p.requires_grad]
        before = StepState(self.task)
        if tail is None:
            seen = self._backward(batches)
            parameters = [p for p in parameters if p.grad is not None]
            gradients = [p.grad for p in parameters if p.grad is not None]
            self.optimizer.zero_grad(set_to_none=True)
            second = whole_loss
        else:
            of_tail = PartialGradient(parameters)

            def second(output: StepOutput, batch: Batch) -> Tensor:
                return loss_of_classes(output, batch, tail)

            def rest(output: StepOutput, batch: Batch) -> Tensor:
                part = second(output, batch)
                of_tail.add(part / self.settings.fit.accumulate_steps)
                return output.loss - part

            seen = self._backward(batches, rest)
            gradients = of_tail.mean()
        after = StepState(self.task)
        with uphill(parameters, gradients, rho=rho):
            before.put_back()
            torch.manual_seed(seed)
            self._backward(batches, second)
        after.put_back()
        return seen
