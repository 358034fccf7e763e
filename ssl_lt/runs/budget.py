"""From `--budget` to a number of epochs and a recipe, found before the folder of a run is made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from ssl_lt.core.disk.yaml_file import as_words
from ssl_lt.core.processes.distributed import gather_objects
from ssl_lt.core.types import LARGEST_SMALL
from ssl_lt.data.dataset import seen_with, train_loader
from ssl_lt.data.validation import with_validation
from ssl_lt.engine.grad_checkpointing import checkpoint_activations
from ssl_lt.engine.plan import FitSettings
from ssl_lt.engine.speed import seconds_per_step
from ssl_lt.finetune.balance.tail_sharpness import tail_classes
from ssl_lt.models.cifar.convnet import SMALLEST_IMAGE
from ssl_lt.runs.build.batches import batch_plan
from ssl_lt.runs.build.defaults import MIN_STEPS, with_defaults
from ssl_lt.runs.build.finetuning import build_task, sampled_plan
from ssl_lt.runs.build.views import worker_crop
from ssl_lt.runs.config.budget import MOST_EPOCHS, budget_seconds, recipe
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, kind_of
from ssl_lt.runs.config.parse import parse
from ssl_lt.runs.life.init_from import InitSource, find_source, load_weights
from ssl_lt.runs.life.processes import build_accelerator
from ssl_lt.runs.life.starts import ComparedStart, compared, started_from
from ssl_lt.runs.life.training import OpenRun


def within_budget(
    run: OpenRun,
    config: AnyFinetuneConfig,
    source: InitSource,
    *,
    given: frozenset[str],
    begun_at: float,
) -> AnyFinetuneConfig:
    """The configuration with the epochs that the budget is enough for, and their recipe.

    Args:
        run: opened, and new.
        config: as it was asked for, with a budget.
        source: what it starts from.
        given: flags that somebody has given, whose values stay.
        begun_at: reading of `time.perf_counter` when the budget began to run.

    Raises:
        UserError: as `finetune` raises before and in its first steps.
    """
    steps = batch_plan(config.run, config.fit, run.data).steps_per_epoch
    # Few images make short epochs; see `with_defaults`.
    most = max(MOST_EPOCHS[source.start], -(-MIN_STEPS * config.fit.accumulate_steps // steps))

    def with_recipe(epochs: int) -> AnyFinetuneConfig:
        small = SMALLEST_IMAGE <= run.data.image_size <= LARGEST_SMALL
        values = recipe(source.start, epochs=epochs, is_small=small)
        left_out = given | _unfit(config)
        words = as_words({name: v for name, v in values.items() if name not in left_out})
        found: AnyFinetuneConfig = parse(kind_of(config.loss), words, default=config)
        return replace(found, fit=replace(found.fit, epochs=epochs))

    def measured(asked: AnyFinetuneConfig) -> tuple[int, float]:
        seconds, steps = _timed(run, asked, source)
        left = budget_seconds(str(config.budget)) - (time.perf_counter() - begun_at)
        epochs = int(left / max(1, len(config.series.stages)) / (seconds * steps))
        return gather_objects((min(max(1, epochs), most), seconds))[0]

    asked = with_recipe(most)
    epochs, seconds = measured(asked)
    # What a step takes depends on the recipe, which depends on how many there are.
    if (other := with_recipe(epochs)) != replace(asked, fit=other.fit):
        asked = other
        epochs, seconds = measured(asked)
    config = replace(asked, fit=replace(asked.fit, epochs=epochs))
    run.accelerator.print(_describe(config, source, seconds=seconds, most=most), flush=True)
    return config


def series_within_budget(
    run: OpenRun,
    config: AnyFinetuneConfig,
    starts: Sequence[ComparedStart],
    given: Sequence[frozenset[str]],
) -> tuple[AnyFinetuneConfig, tuple[ComparedStart, ...]]:
    """`within_budget` of a series: once for each start, whose seeds are trained alike.

    Args:
        run: of the series.
        config: with `series`.
        starts: that are compared; none: the one of the configuration.
        given: flags that somebody has given, of each start.
    """
    own = [started_from(config, start) for start in starts] or [config]
    found = []
    for one, flags_given in zip(own, given, strict=True):
        begun_at = time.perf_counter()
        source = find_source(one.init_from, backbone=one.model.backbone)
        seen = replace(run, data=seen_with(run.data, one.data))
        asked = replace(one, series=config.series)
        timed = within_budget(seen, asked, source, given=flags_given, begun_at=begun_at)
        found.append(replace(timed, init_from=config.init_from))
    if not starts:
        return found[0], ()
    return compared([start.name for start in starts], found)


def _unfit(config: AnyFinetuneConfig) -> set[str]:
    """Flags of a recipe that do not go with what was asked for."""
    has_nesterov = config.optim.optimizer == "sgd" and config.optim.momentum > 0
    return set() if has_nesterov else {"nesterov"}


def _timed(run: OpenRun, config: AnyFinetuneConfig, source: InitSource) -> tuple[float, int]:
    """Seconds of an optimiser step, and how many an epoch has; what is built is thrown away."""
    data = with_validation(run.data, config.val_fraction)
    accelerator = build_accelerator(config.fit, run.path)  # it keeps what it has prepared
    device = accelerator.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        batches = batch_plan(config.run, config.fit, data)
        steps = batches.steps_per_epoch // config.fit.accumulate_steps
        config = with_defaults(config, source.start, steps_per_epoch=steps)
        task = build_task(config, data, data.validation)
        load_weights(task.backbone, source, config.model, image_size=data.image_size)
        if config.fit.grad_checkpointing:
            checkpoint_activations(task.backbone)
        counts = torch.tensor(data.split.counts_per_class)
        settings = FitSettings(
            config.fit,
            config.optim,
            config.schedule,
            config.run.seed,
            tail_classes=tail_classes(counts, config.sharpness),
        )
        batches = sampled_plan(batches, task, config, data)
        loader = train_loader(data, batches, worker_crop(config, data.spec), device=device)
        return seconds_per_step(task, loader, settings, accelerator=accelerator), steps


def _describe(config: AnyFinetuneConfig, source: InitSource, *, seconds: float, most: int) -> str:
    """What was decided, on one line."""
    epochs = config.fit.num_epochs
    number = f"{epochs} epoch{'s' * (epochs > 1)}" + " (the most)" * (epochs == most)
    network = config.model.backbone
    if config.model.width is not None:
        network += f" of width {config.model.width}"
    views = "weak augmentation" if config.augment == "weak" else config.augment
    return (
        f"budget {config.budget}: {number} from {source.name} at {seconds:.2g} s a step, "
        f"{views}, {network}"
    )
