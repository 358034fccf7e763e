"""How long a step takes, from the loader to the update, measured before a run begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from statistics import mean, median

import torch
from accelerate import Accelerator

from ssl_lt.core.processes.distributed import all_true, gather_objects
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch, Loader
from ssl_lt.engine.averaging import WeightAverage
from ssl_lt.engine.out_of_memory import is_out_of_memory, out_of_memory
from ssl_lt.engine.plan import FitSettings
from ssl_lt.engine.update import Update, prepared

# Steps that are left out, and the seconds that they take at least: caches fill, libraries choose
# their kernels, and batches are used up that workers made before the first step.
_WARM_UP_STEPS, _WARM_UP_SECONDS = 3, 1.0
# Then steps are timed for so long, and so many at least.
_TIMED_STEPS, _TIMED_SECONDS = 3, 3.0


def seconds_per_step(
    task: TrainTask,
    loader: Loader,
    settings: FitSettings,
    *,
    accelerator: Accelerator,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of an optimiser step, the same number on every rank.

    The learning rate is 0 meanwhile: nothing can diverge, and the task is thrown away.

    Args:
        task: as it will be trained; its statistics and memories change.
        loader: of its batches.
        settings: as of the run, with the epochs that are tried at most.
        accelerator: made for this alone.
        clock: seconds since some moment.

    Returns:
        The median, or the mean where that is more: several workers hand over batches in bursts.

    Raises:
        NumericError, OutOfMemoryError: as `fit`.
    """
    update = prepared(task, settings, accelerator)
    steps = _steps(update, loader, settings)
    device = accelerator.device
    try:
        _marks(steps, clock, _WARM_UP_STEPS, _WARM_UP_SECONDS, device=device)
        marks = _marks(steps, clock, _TIMED_STEPS, _TIMED_SECONDS, device=device)
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, step=1, batch_size=loader.batch_size) from error
        raise
    seconds = [after - before for before, after in pairwise(marks)]
    own = max(median(seconds), mean(seconds))
    return gather_objects(own)[0]


def _marks(
    steps: Iterator[None],
    clock: Callable[[], float],
    least: int,
    for_seconds: float,
    *,
    device: torch.device,
) -> list[float]:
    """When steps ended, and before them when the first began, until all ranks have had enough."""
    marks = [clock()]
    while True:
        next(steps)
        marks.append(clock())
        is_enough = len(marks) > least and marks[-1] - marks[0] >= for_seconds
        if all_true(torch.tensor(is_enough, device=device)):
            return marks


def _steps(update: Update, loader: Loader, settings: FitSettings) -> Iterator[None]:
    """Takes one step after the other; when all epochs are over, the first comes again."""
    task, decay = update.task, settings.optim.ema
    average = WeightAverage(task, decay=decay) if decay else None
    fit = settings.fit
    steps_per_epoch = loader.steps_per_epoch // fit.accumulate_steps
    task.train()
    step = 0
    for number in cycle(range(fit.num_epochs)):
        epoch = Epoch(number, fit.num_epochs, steps_per_epoch * fit.accumulate_steps)
        task.on_epoch_start(epoch)
        batches = loader.epoch(number)
        for _ in range(steps_per_epoch):
            update(batches, step=step, lr=0.0)
            step += 1
            if average is not None:
                average.update(step)
            yield
        task.on_epoch_end(epoch)
