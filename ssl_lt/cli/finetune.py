"""`finetune.py`: train a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ssl_lt.augment.views import WorkerCrop
from ssl_lt.cli.build import (
    CROP_AND_FLIP,
    Data,
    build_accelerator,
    build_backbone,
    check_labels,
    open_data,
    start_run,
    train_loader,
    weak_view,
)
from ssl_lt.cli.fields import extended, flat, flat_fields, nearest, one_of, to_mapping
from ssl_lt.cli.measure import classifier_predictions, judge
from ssl_lt.cli.options import FinetuneConfig
from ssl_lt.cli.parse import parse, peek_values, read_configs, split_arguments
from ssl_lt.cli.runs import new_run_path, resumed_config, stored_values, take_resume
from ssl_lt.cli.summary import describe_start, save_result
from ssl_lt.cli.weights_from import find_origin, load_weights
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch
from ssl_lt.data.loaders import BatchPlan
from ssl_lt.data.tables import FileTable, PixelTable
from ssl_lt.engine.fit import fit
from ssl_lt.engine.plan import Plan
from ssl_lt.engine.run_folder import RunFolder, create_run_folder
from ssl_lt.finetune.task import ClassifierTask
from ssl_lt.losses.registry import LOSSES
from ssl_lt.models.classifiers import CosineClassifier, linear_classifier
from ssl_lt.models.export import export_backbone
from ssl_lt.report.results import Evaluation


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    words = split_arguments(arguments)
    resumed = take_resume(words, "finetune")
    config = _read(words, resumed)
    if resumed is not None and resumed.results.is_file():
        print(f"{resumed.path} is finished: nothing to do")
        return 0
    name = config.run.run_dir or new_run_path("finetune", config.loss, config.data.data)
    if resumed is None and name.exists():
        create_run_folder(name)  # raises: before minutes are spent on data
    accelerator = build_accelerator(config.fit, name)
    data = open_data(config.data, split_file=None if resumed is None else resumed.split)
    check_labels(data, "fine-tuning")
    plan = BatchPlan(len(data.train), config.run.batch_size, config.run.seed)
    task = build_task(config, data)
    origin = find_origin(config.init_from)
    report = load_weights(task.backbone, origin)
    accelerator.print(origin.note + (f": {report}" if report else ""))
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
    crop = WorkerCrop(CROP_AND_FLIP, seed=config.run.seed, num_views=1)
    loader = train_loader(data, batches, crop, device=accelerator.device)
    test = data.test()

    def end_of_epoch(task: TrainTask, epoch: Epoch) -> Mapping[str, float]:
        assert isinstance(task, ClassifierTask)
        last = epoch.number + 1 == epoch.total
        due = config.eval_every and ((epoch.number + 1) % config.eval_every == 0 or last)
        if not due or test is None:
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
        source, size = data.source, data.image_size
        export_backbone(
            task.backbone, folder.exported, image_size=size, mean=source.mean, std=source.std
        )
        save_result(folder, data, to_mapping(config), verb="finetune", evaluations=evaluations)
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


def build_task(config: FinetuneConfig, data: Data) -> ClassifierTask:
    """Networks, loss and view; initial weights follow from the seed."""
    backbone, num_features = build_backbone(
        config.model, image_size=data.image_size, seed=config.run.seed
    )
    if config.classifier == "cosine":
        classifier: nn.Module = CosineClassifier(num_features, data.num_classes)
    else:
        classifier = linear_classifier(num_features, data.num_classes)
    counts = torch.tensor(data.split.counts_per_class)
    options = getattr(config, "options")  # noqa: B009  (of the chosen loss, see `default`)
    return ClassifierTask(
        backbone,
        classifier,
        LOSSES[config.loss].build(counts, options),
        weak_view(data),
        trained="classifier" if config.freeze_backbone else "all",
        seed=config.run.seed,
    )


def default(loss: str) -> FinetuneConfig:
    """The default configuration with the options of one loss in it.

    Raises:
        ConfigError: an unknown loss.
    """
    if loss not in LOSSES:
        raise ConfigError(f"--loss: unknown name {loss!r}{nearest(loss, LOSSES)}")
    options = LOSSES[loss].options
    fields: list[tuple[str, Any, Any]] = [
        ("loss", one_of(LOSSES), loss),
        ("options", flat(options), options),
    ]
    return extended(FinetuneConfig, fields)


def _read(words: list[str], resumed: RunFolder | None) -> FinetuneConfig:
    """The configuration of a new run, or of one that goes on."""
    if resumed is not None:
        values = stored_values(resumed)
        return resumed_config(default(values["loss"]), words, resumed)
    values = read_configs(words)
    loss = (peek_values(words, "--loss") or [values.get("loss", FinetuneConfig.loss)])[0]
    chosen = default(loss)
    init_from = peek_values(words, "--init-from") or [values.get("init-from", "auto")]
    # A stranger may ask for help before anything has been trained.
    origin = find_origin("scratch" if "--help" in words else init_from[0])
    config = parse(
        chosen,
        words,
        {**origin.values, **values},
        prog="finetune.py",
        elsewhere=_other_flags(chosen),
    )
    return replace(config, init_from=origin.name)


def _other_flags(chosen: FinetuneConfig) -> dict[str, str]:
    """Flags of the losses that were not chosen, and whose they are."""
    own = {name for name, _, _ in flat_fields(chosen)}
    flags = {
        option.name.replace("_", "-"): f"--loss {loss}"
        for loss, entry in LOSSES.items()
        for option in dataclasses.fields(entry.options)
    }
    return {flag: owner for flag, owner in flags.items() if flag not in own}
