"""The one training loop."""

from __future__ import annotations

import signal
import time
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator

from ssl_lt.core.errors import DiskError
from ssl_lt.core.processes.distributed import all_true, world_size
from ssl_lt.core.progress import ProgressBar
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch, Loader
from ssl_lt.engine.averaging import WeightAverage, put
from ssl_lt.engine.checkpoints.checkpoint import (
    folder_of,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from ssl_lt.engine.checkpoints.chosen import evaluated_stem, write_choice
from ssl_lt.engine.checkpoints.run_folder import RunFolder, remove_leftovers
from ssl_lt.engine.checkpoints.state import (
    TrainingState,
    check_same_step,
    notes_on,
    surroundings,
)
from ssl_lt.engine.finite import check_weights
from ssl_lt.engine.logs.metrics import MetricsLog
from ssl_lt.engine.out_of_memory import is_out_of_memory, out_of_memory
from ssl_lt.engine.plan import EndOfEpoch, FitSettings
from ssl_lt.engine.schedule import lr_multiplier
from ssl_lt.engine.selection import Selection
from ssl_lt.engine.signals import Stopped, StopRequest
from ssl_lt.engine.update import prepared


def fit(
    task: TrainTask,
    loader: Loader,
    settings: FitSettings,
    *,
    accelerator: Accelerator,
    folder: RunFolder,
    end_of_epoch: EndOfEpoch,
) -> None:
    """Trains `task`, from the newest checkpoint in the run folder if there is one.

    Then the task has the weights that are evaluated and exported: the last, or with `--keep best`
    those of the best epoch; averaged with `--ema`.

    Raises:
        NumericError: a loss or gradient is not finite on some rank; raised on all ranks, before
            the optimiser step, as `not_finite` says. The last good checkpoint stays.
        OutOfMemoryError: names the batch; the last good checkpoint stays.
        Stopped: a signal asked for it; the state is saved.
        CheckpointError: the checkpoint is damaged or belongs to another model.
        DistributedError: another process finds another checkpoint.
        DiskError: a checkpoint or a line could not be written.
    """
    training = _Training(task, loader, settings, accelerator, folder)
    if accelerator.is_main_process:
        remove_leftovers(folder, warn=print)
    checkpoint = newest_checkpoint(folder.checkpoints, warn=accelerator.print)
    check_same_step(0 if checkpoint is None else checkpoint.step)
    if checkpoint is None:
        training.log.restore({}, 0, step=-1)  # of a run that was killed before it saved anything
        if settings.at_start:
            training.log.write({"step": 0, "epoch": 0, **settings.at_start})
    else:
        training.state.restore(checkpoint)
        training.step = training.saved_step = checkpoint.step
        training.write_choice()  # that of a later checkpoint, which is damaged, is forgotten
        for note in notes_on(checkpoint, training.state.surroundings):
            accelerator.print(note)
    training.run(end_of_epoch)


class _Training:
    """State of the loop; it reads from top to bottom."""

    def __init__(
        self,
        task: TrainTask,
        loader: Loader,
        settings: FitSettings,
        accelerator: Accelerator,
        folder: RunFolder,
    ) -> None:
        self.settings, self.loader = settings, loader
        self.accelerator, self.folder = accelerator, folder
        self.steps_per_epoch = loader.steps_per_epoch // settings.fit.accumulate_steps
        self.total_steps = self.steps_per_epoch * settings.fit.num_epochs
        self.images_per_step = loader.batch_size * settings.fit.accumulate_steps
        self.update = prepared(task, settings, accelerator)
        self.task = self.update.task
        self.log = MetricsLog(folder, accelerator)
        self.selection = Selection(settings.fit, measure=settings.measure)
        decay = settings.optim.ema
        self.average = WeightAverage(self.task, decay=decay) if decay else None
        self.state = TrainingState(
            self.task,
            self.update.optimizer,
            self.log,
            self.total_steps,
            settings.identity,
            self.average,
            self.selection,
            accelerator.scaler,
            surroundings(settings.fit, accelerator),
        )
        self.step = 0
        self.saved_step = 0

    def run(self, end_of_epoch: EndOfEpoch) -> None:
        """All epochs that are still to do."""
        with (
            StopRequest() as stop,
            ProgressBar("training", self.total_steps, first_step=self.step) as bar,
        ):
            try:
                self._catch_up(end_of_epoch)
                self._stop_if_asked(stop)
                while self.step < self.total_steps and not self.selection.has_waited_enough:
                    self._epoch(end_of_epoch, bar, stop)
                self._take_evaluated_weights()
            except Exception as error:
                if is_out_of_memory(error):
                    raise out_of_memory(
                        error, step=self.step + 1, batch_size=self.loader.batch_size
                    ) from error
                raise

    def _catch_up(self, end_of_epoch: EndOfEpoch) -> None:
        """What came after the checkpoint that this run goes on from and before the next step.

        The line that could not be written, where that ended the run; and the measurement at the
        end of an epoch, which the checkpoint precedes so that no training hangs on it.
        """
        if self.step == 0:
            return
        epoch = self._epoch_of((self.step - 1) // self.steps_per_epoch)
        if self.log.summed_steps and self._line_is_due():
            self._write_line(epoch)
        if self._epoch_ends():
            self._measure(epoch, end_of_epoch)

    def _epoch(self, end_of_epoch: EndOfEpoch, bar: ProgressBar, stop: StopRequest) -> None:
        number, first = divmod(self.step, self.steps_per_epoch)
        epoch = self._epoch_of(number)
        started_at = time.perf_counter()
        self.task.train()
        self.task.on_epoch_start(epoch)
        batches = self.loader.epoch(number, first_step=first * self.settings.fit.accumulate_steps)
        line: dict[str, Any] = {}
        for _ in range(first, self.steps_per_epoch):
            numbers = self.update(batches, step=self.step, lr=self._lr_of(self.step))
            self.step += 1
            if self.average is not None:
                self.average.update(self.step)
            self.log.add(numbers)
            images_per_second = self._images_per_second(started_at, first)
            if self._epoch_ends():
                self.task.on_epoch_end(epoch)
            if self._line_is_due():
                line = self._write_line(epoch)
            loss = f"loss {line['loss']:.4f}" if "loss" in line else ""
            with stop.if_nobody_reads():
                bar.show(self.step, note=f"{loss}  {images_per_second:.0f} images/s")
            if not self._epoch_ends():  # the epoch's own end saves and may stop, below
                self._save_if_due()
                self._stop_if_asked(stop)
        self._save()  # before the measurement: killed in it, no step is taken again
        line |= self._measure(epoch, end_of_epoch)
        self.log.write_timing(
            {
                "step": self.step,
                "epoch": number,
                "seconds": round(time.perf_counter() - started_at, 3),
                "images_per_second": round(images_per_second, 1),
            }
        )
        with stop.if_nobody_reads():
            bar.say(f"{_describe(epoch, line)}  {images_per_second:.0f} images/s")
        self._stop_if_asked(stop)

    def _lr_of(self, step: int) -> float:
        """Of the update that ends step `step + 1`."""
        return self.settings.optim.peak_lr * lr_multiplier(
            step,
            self.settings.schedule,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
        )

    def _epoch_of(self, number: int) -> Epoch:
        fit = self.settings.fit
        return Epoch(number, fit.num_epochs, self.steps_per_epoch * fit.accumulate_steps)

    def _epoch_ends(self) -> bool:
        return self.step % self.steps_per_epoch == 0

    def _line_is_due(self) -> bool:
        return self._epoch_ends() or self.step % self.settings.fit.log_every == 0

    def _write_line(self, epoch: Epoch) -> dict[str, Any]:
        """The means since the line before; one that cannot be written is not lost."""
        line = {"step": self.step, "epoch": epoch.number, "lr": self._lr_of(self.step - 1)}
        try:
            return self.log.flush(line)
        except DiskError as error:
            # Rank 0 alone comes here; the others learn of it when this process ends.
            self._write_checkpoint()
            raise DiskError(f"{error}; the state after step {self.step} is saved") from error

    def _measure(self, epoch: Epoch, end_of_epoch: EndOfEpoch) -> dict[str, Any]:
        """What is measured between two epochs, and logged beside the means."""
        with nullcontext() if self.average is None else self.average.in_place():
            line = dict(end_of_epoch(self.task, epoch))
        if line:
            self.log.write({"step": self.step, "epoch": epoch.number, **line})
        if self.selection.observe(line, step=self.step, epoch=epoch):
            self.write_choice()
        self.accelerator.wait_for_everyone()
        return line

    def write_choice(self) -> None:
        """For those who ask which weights are evaluated."""
        if self.selection.is_asked and self.accelerator.is_main_process:
            write_choice(self.folder.checkpoints, self.selection.choice)

    def _take_evaluated_weights(self) -> None:
        """Those of the best epoch, or the newest; averaged, where there is an average."""
        if (step := self.selection.kept_step) is not None:
            best = load_checkpoint(folder_of(self.folder.checkpoints, step))
            put(best.tensors[evaluated_stem(best)], into=self.task)
        elif self.average is not None:
            put(self.average.tensors, into=self.task)

    def _images_per_second(self, started_at: float, first: int) -> float:
        steps = (self.step - 1) % self.steps_per_epoch + 1 - first
        return steps * self.images_per_step / (time.perf_counter() - started_at)

    def _save_if_due(self) -> None:
        every = self.settings.fit.checkpoint_every
        if every and self.step % every == 0:
            self._save()

    def _save(self) -> None:
        """A checkpoint from rank 0: every rank holds the same state."""
        if self.saved_step == self.step:
            return
        self._write_checkpoint()
        self.accelerator.wait_for_everyone()

    def _write_checkpoint(self) -> None:
        check_weights(self.step, self.task)
        self.saved_step = self.step
        checkpoint = self.state.at(self.step)
        if self.accelerator.is_main_process:
            self.log.sync()
            keep = self.settings.fit.keep_checkpoints
            save_checkpoint(self.folder.checkpoints, checkpoint, keep=keep)

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
