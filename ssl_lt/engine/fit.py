"""The one training loop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from ssl_lt.core.distributed import all_true, rank, world_size
from ssl_lt.core.errors import ConfigError, NumericError
from ssl_lt.core.random import seed_of
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, Epoch
from ssl_lt.engine.allocator import keep_freed_memory
from ssl_lt.engine.checkpoint import newest_checkpoint, save_checkpoint
from ssl_lt.engine.log import MetricsLog
from ssl_lt.engine.optim import build_optimizer
from ssl_lt.engine.plan import EndOfEpoch, Loader, Plan
from ssl_lt.engine.progress import ProgressBar
from ssl_lt.engine.run_folder import RunFolder
from ssl_lt.engine.schedule import lr_multiplier
from ssl_lt.engine.signals import Stopped, StopRequest
from ssl_lt.engine.state import TrainingState
from ssl_lt.models.batch_norm import synchronised


@dataclass(frozen=True)
class FitResult:
    """What the loop measured in this process; what ran before a resume is not in it."""

    elapsed_seconds: float
    images_per_second: float


def fit(
    task: TrainTask,
    loader: Loader,
    plan: Plan,
    *,
    accelerator: Accelerator,
    folder: RunFolder,
    end_of_epoch: EndOfEpoch,
) -> FitResult:
    """Trains `task`, from the newest checkpoint in the run folder if there is one.

    Raises:
        NumericError: a loss or gradient is not finite on some rank; raised on all ranks, before
            the optimiser step, naming the step. The last good checkpoint stays.
        Stopped: a signal asked for it; the state is saved.
        CheckpointError: the checkpoint is damaged or belongs to another model.
        DiskError: a checkpoint or a line could not be written.
    """
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    training = _Training(task, loader, plan, accelerator, folder)
    checkpoint = newest_checkpoint(folder.checkpoints, warn=accelerator.print)
    if checkpoint is None:
        training.log.restore({}, 0, step=0)  # of a run that was killed before it saved anything
    else:
        training.state.restore(checkpoint)
        training.step = training.saved_step = checkpoint.step
        processes = checkpoint.state["processes"]
        if processes != world_size():
            accelerator.print(
                f"note: {processes} processes wrote this checkpoint and {world_size()} go on: "
                "equal up to rounding, not bit for bit"
            )
    return training.run(end_of_epoch)


class _Training:
    """State of the loop; it reads from top to bottom."""

    def __init__(
        self,
        task: TrainTask,
        loader: Loader,
        plan: Plan,
        accelerator: Accelerator,
        folder: RunFolder,
    ) -> None:
        self.plan, self.loader, self.accelerator, self.folder = plan, loader, accelerator, folder
        self.steps_per_epoch = loader.steps_per_epoch // plan.fit.accumulate_steps
        if self.steps_per_epoch < 1:
            raise ConfigError(
                f"--accumulate-steps: {plan.fit.accumulate_steps} batches of {loader.batch_size} "
                f"are more than an epoch has ({loader.steps_per_epoch})"
            )
        self.total_steps = self.steps_per_epoch * plan.fit.epochs
        self.images_per_step = loader.batch_size * plan.fit.accumulate_steps
        if world_size() > 1:
            task = synchronised(task)
        self.task = task.to(accelerator.device).to(memory_format=torch.channels_last)
        for memory in task.memories():
            memory.to(accelerator.device)
        self.optimizer = build_optimizer(self.task, plan.optim, lr_scale=plan.lr_scale)
        self.model = accelerator.prepare_model(self.task)
        self.step_module = torch.compile(self.model) if plan.fit.compile else self.model
        self.log = MetricsLog(folder, accelerator)
        self.state = TrainingState(self.task, self.optimizer, self.log, self.total_steps)
        self.step = 0
        self.saved_step = 0
        self._lr = plan.optim.lr

    def run(self, end_of_epoch: EndOfEpoch) -> FitResult:
        """All epochs that are still to do."""
        first_step, started_at = self.step, time.perf_counter()
        is_main = self.accelerator.is_main_process
        with (
            StopRequest() as stop,
            ProgressBar(self.total_steps, first_step=first_step, is_main=is_main) as bar,
        ):
            while self.step < self.total_steps:
                self._epoch(end_of_epoch, bar, stop)
        elapsed_seconds = time.perf_counter() - started_at
        images = (self.total_steps - first_step) * self.images_per_step
        return FitResult(elapsed_seconds, images / elapsed_seconds)

    def _epoch(self, end_of_epoch: EndOfEpoch, bar: ProgressBar, stop: StopRequest) -> None:
        number, first = divmod(self.step, self.steps_per_epoch)
        epoch = Epoch(number, self.plan.fit.epochs, self.steps_per_epoch)
        started_at = time.perf_counter()
        self.task.train()
        self.task.on_epoch_start(epoch)
        batches = self.loader.epoch(number, first_step=first * self.plan.fit.accumulate_steps)
        line: dict[str, Any] = {}
        for _ in range(first, self.steps_per_epoch):
            self._optimizer_step(batches)
            ends = self.step % self.steps_per_epoch == 0
            if ends or self.step % self.plan.fit.log_every == 0:
                line = self.log.flush({"step": self.step, "epoch": number, "lr": self._lr})
            bar.advance(self.step, line.get("loss"), self._images_per_second(started_at, first))
            if not ends:  # the epoch's own end saves and may stop, below
                self._save_if_due()
                self._stop_if_asked(stop)
        images_per_second = self._images_per_second(started_at, first)
        self.task.on_epoch_end(epoch)
        line |= self._measure(epoch, end_of_epoch)
        self.log.write_timing(
            {
                "step": self.step,
                "epoch": number,
                "seconds": round(time.perf_counter() - started_at, 3),
                "images_per_second": round(images_per_second, 1),
            }
        )
        self._save()
        bar.say(f"{_describe(epoch, line)}  {images_per_second:.0f} images/s")
        self._stop_if_asked(stop)

    def _optimizer_step(self, batches: Iterator[Batch]) -> None:
        """Forward and backward of the accumulated batches, check, update."""
        # Dropout and the like draw from a stream that is a function of the step: nothing to save.
        torch.manual_seed(seed_of(self.plan.seed, self.step, rank()))
        accumulate = self.plan.fit.accumulate_steps
        for number in range(accumulate):
            last = number == accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                output = self.step_module(next(batches))
                self.accelerator.backward(output.loss / accumulate)
        parameters = [p for p in self.task.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not all_true(torch.isfinite(output.loss.detach()) & torch.isfinite(norm)):
            raise NumericError(
                f"step {self.step + 1}: not finite on some process (here: loss "
                f"{output.loss.item():g}, gradient norm {norm.item():g}); nothing was updated"
            )
        if self.plan.optim.clip_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.plan.optim.clip_grad_norm, norm)
        self._set_lr()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.log.add({"loss": output.loss.detach(), "grad_norm": norm, **output.terms})

    def _set_lr(self) -> None:
        multiplier = lr_multiplier(
            self.step,
            self.plan.schedule,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )
        self._lr = self.plan.optim.lr * multiplier
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr * group["lr_scale"]

    def _measure(self, epoch: Epoch, end_of_epoch: EndOfEpoch) -> dict[str, Any]:
        """What is measured between two epochs, and logged beside the means."""
        line = dict(end_of_epoch(self.task, epoch))
        if line:
            self.log.write({"step": self.step, "epoch": epoch.number, **line})
        self.accelerator.wait_for_everyone()
        return line

    def _images_per_second(self, started_at: float, first: int) -> float:
        steps = (self.step - 1) % self.steps_per_epoch + 1 - first
        return steps * self.images_per_step / (time.perf_counter() - started_at)

    def _save_if_due(self) -> None:
        every = self.plan.fit.checkpoint_every
        if every and self.step % every == 0:
            self._save()

    def _save(self) -> None:
        """A checkpoint from rank 0: every rank holds the same state."""
        if self.saved_step == self.step:
            return
        self.saved_step = self.step
        if self.accelerator.is_main_process:
            keep = self.plan.fit.keep_checkpoints
            save_checkpoint(self.folder.checkpoints, self.state.at(self.step), keep=keep)
        self.accelerator.wait_for_everyone()

    def _stop_if_asked(self, stop: StopRequest) -> None:
        """Every rank stops where any was asked to."""
        calm = stop.signal_number == 0
        if world_size() > 1:
            calm = bool(all_true(torch.tensor(calm, device=self.accelerator.device)))
        if not calm:
            self._save()
            raise Stopped(stop.signal_number or signal.SIGTERM, self.step)


def _describe(epoch: Epoch, line: dict[str, Any]) -> str:
    skipped = ("step", "epoch", "lr", "grad_norm")
    numbers = "  ".join(
        f"{name} {value:.4g}" for name, value in line.items() if name not in skipped
    )
    return f"epoch {epoch.number + 1}/{epoch.total}  {numbers}"
