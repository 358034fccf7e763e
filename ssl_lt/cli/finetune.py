"""`finetune.py`: train a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from accelerate import Accelerator
from torch import nn

from ssl_lt.augment.views import ViewOptions
from ssl_lt.cli.build import (
    Data,
    batch_plan,
    build_accelerator,
    check_labels,
    open_data,
    start_run,
    train_loader,
)
from ssl_lt.cli.fields import coerce, extended, flat, flat_fields, nearest, one_of, to_mapping
from ssl_lt.cli.measure import classifier_predictions, judge
from ssl_lt.cli.options import FinetuneConfig
from ssl_lt.cli.parse import parse, peek_values, read_configs, split_arguments, take_values
from ssl_lt.cli.runs import new_run_path, resumed_config, stored_values, take_resume
from ssl_lt.cli.summary import describe_start, save_result
from ssl_lt.cli.supervised import build_task, worker_crop
from ssl_lt.cli.weights_from import Origin, find_origin, load_weights
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch
from ssl_lt.data.loaders import BatchPlan
from ssl_lt.data.tables import FileTable, PixelTable
from ssl_lt.engine.fit import fit
from ssl_lt.engine.plan import Plan
from ssl_lt.engine.run_folder import RunFolder, create_run_folder
from ssl_lt.finetune.registry import STEPS, StepEntry
from ssl_lt.finetune.task import ClassifierTask
from ssl_lt.losses.registry import LOSSES, LossEntry
from ssl_lt.models.export import export_backbone
from ssl_lt.report.results import Evaluation

ENTRIES: dict[str, LossEntry | StepEntry] = {**LOSSES, **STEPS}


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    words = split_arguments(arguments)
    resumed = take_resume(words, "finetune")
    config, origin = read_config(words, resumed)
    if resumed is not None and resumed.is_finished:
        print(f"{resumed.path} is finished: nothing to do")
        return 0
    name = config.run.run_dir or new_run_path("finetune", config.loss, config.data.data)
    if resumed is None and name.exists():
        create_run_folder(name)  # raises: before minutes are spent on data
    accelerator = build_accelerator(config.fit, name)
    data = open_data(config.data, split_file=None if resumed is None else resumed.split)
    check_labels(data, "fine-tuning")
    plan = batch_plan(config.run, config.fit, data)
    task = build_task(config, data)
    if resumed is None or not any(resumed.checkpoints.glob("step-*")):
        origin = origin or find_origin(config.init_from)
        report = load_weights(task.backbone, origin)
        accelerator.print(origin.note + (f": {report}" if report else ""))
    data.test()  # decodes it: a damaged image is found before the run begins
    folder = resumed or start_run(name, config, data, accelerator, verb="finetune")
    train(task, config, data, plan, folder=folder, accelerator=accelerator)
    return 0


def train(
    task: ClassifierTask,
    config: FinetuneConfig,
    data: Data,
    batches: BatchPlan,
    *,
    folder: RunFolder,
    accelerator: Accelerator,
) -> None:
    """Fits, exports, and writes the last epoch's accuracy on the test split."""
    accelerator.print(describe_start(folder, data, config.run.batch_size, accelerator), flush=True)
    loader = train_loader(data, batches, worker_crop(config), device=accelerator.device)
    test = data.test()

    def end_of_epoch(task: TrainTask, epoch: Epoch) -> Mapping[str, float]:
        assert isinstance(task, ClassifierTask)
        if test is None or not epoch.is_due(config.eval_every):
            return {}
        return {"accuracy": judge_classifier(task, test, data, config).accuracy.balanced}

    fit(
        task,
        loader,
        Plan(config.fit, config.optim, config.schedule, config.run.seed),
        accelerator=accelerator,
        folder=folder,
        end_of_epoch=end_of_epoch,
    )
    evaluations = () if test is None else (judge_classifier(task, test, data, config),)
    if accelerator.is_main_process:
        save_result(folder, data, to_mapping(config), verb="finetune", evaluations=evaluations)
        source, size = data.source, data.image_size
        # Last: a run that has it is finished.
        export_backbone(
            task.backbone, folder.exported, image_size=size, mean=source.mean, std=source.std
        )
        print(f"finished: {folder.path}; next: evaluate.py")
    accelerator.end_training()


def judge_classifier(
    task: ClassifierTask, test: PixelTable | FileTable, data: Data, config: FinetuneConfig
) -> Evaluation:
    """The network's own predictions on the test split."""
    network = nn.Sequential(task.backbone, task.classifier)
    precision = config.fit.mixed_precision
    predictions, labels = classifier_predictions(network, test, data, precision=precision)
    return judge("classifier", predictions, labels, data, note=f"loss {config.loss}, last epoch")


def default(loss: str) -> FinetuneConfig:
    """The default configuration with the options of one loss in it.

    Raises:
        ConfigError: an unknown loss.
    """
    if loss not in ENTRIES:
        raise ConfigError(f"--loss: unknown name {loss!r}{nearest(loss, ENTRIES)}")
    entry = ENTRIES[loss]
    fields: list[tuple[str, Any, Any]] = [
        ("loss", one_of(ENTRIES), loss),
        ("options", flat(entry.options), entry.options),
    ]
    if entry.has_views:
        fields.append(("view", ViewOptions, ViewOptions))
    return extended(FinetuneConfig, fields)


def read_config(
    words: list[str], resumed: RunFolder | None
) -> tuple[FinetuneConfig, Origin | None]:
    """The configuration of a new run and what it starts from, or that of a run that goes on."""
    values = read_configs(words)
    if resumed is not None:
        if peek_values(words, "--init-from") == ["auto"]:
            take_values(words, "--init-from")  # what it meant was written down at the start
        loss = str(stored_values(resumed)["loss"])
        return resumed_config(default(loss), words, values, resumed), None
    chosen = default(_one(words, values, "loss", FinetuneConfig.loss))
    init_from = _one(words, values, "init-from", FinetuneConfig.init_from)
    # A stranger may ask for help before anything has been trained.
    origin = find_origin("scratch" if {"--help", "-h"} & {*words} else init_from)
    config = parse(
        chosen,
        words,
        {**origin.values, **values},
        prog="finetune.py",
        elsewhere=_other_flags(chosen),
    )
    return replace(config, init_from=origin.name), origin


def _one(words: list[str], values: Mapping[str, Any], name: str, otherwise: str) -> str:
    """What a flag says, or else a YAML value."""
    value: str = coerce(values.get(name, otherwise), str, where=f"--config: {name}")
    return (peek_values(words, f"--{name}") or [value])[0]


def _other_flags(chosen: FinetuneConfig) -> dict[str, str]:
    """Flags of the losses that were not chosen, and whose they are."""
    own = {name for name, _, _ in flat_fields(chosen)}
    flags = {
        option.name.replace("_", "-"): f"--loss {loss}"
        for loss, entry in ENTRIES.items()
        for option in dataclasses.fields(entry.options)
    }
    return {flag: owner for flag, owner in flags.items() if flag not in own}
