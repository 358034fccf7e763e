"""What a run says of itself: a few lines at the start, `results.json` at the end."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from ssl_lt.core.processes.distributed import world_size
from ssl_lt.core.types import LARGEST_SMALL
from ssl_lt.data.curate.describe import glance
from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.data.curate.summary import understood
from ssl_lt.data.dataset import Data
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.engine.checkpoints.chosen import describe_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.plan import FitOptions
from ssl_lt.evaluate.geometry.representation import Representation
from ssl_lt.evaluate.scores.correct_mask import pack_groups
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.curves import read_curves
from ssl_lt.report.records.results import (
    DataDescription,
    Environment,
    RunResult,
    Timing,
    read_results,
    write_results,
)
from ssl_lt.runs.config.stored import TrainConfig, read_config

# Which option says what a run of each verb is.
_CHOICE = {"pretrain": "method", "finetune": "loss", "evaluate": "init-from"}
_VERSIONS = ("ssl_lt", "torch", "torchvision", "timm", "accelerate", "faiss-gpu", "faiss-cpu")


def describe_start(
    folder: RunFolder,
    data: Data,
    config: TrainConfig,
    accelerator: Accelerator,
    batches: BatchSchedule,
) -> str:
    """Folder, what was understood of the data, processes and precision, before the first step."""
    batch_size = config.fit.batch_size
    processes = world_size()
    share = f"{batch_size} images a step"
    if processes > 1:
        share += f", {batch_size // processes} on each of {processes} processes"
    device = str(accelerator.device)
    if accelerator.device.type == "cpu":
        device += f" with {torch.get_num_threads()} threads"
    whole = data.source.train
    stats = glance(data.train if whole.takes_pixels else whole.take(data.split.indices))
    parts = {"test": data.source.test, "validation": data.source.validation}
    lines = understood(
        data.source,
        stats,
        num_images=len(data.train),
        counts_per_class=data.split.counts_per_class,
        held={part: glance(table) for part, table in parts.items() if table is not None},
        more=_left_out(data),
    )
    precision = accelerator.mixed_precision.replace("no", "fp32")
    lines = [f"run: {folder.path}", *lines, f"on {device}, precision {precision}, {share}"]
    size = size_hint(stats, config, image_size=data.image_size)
    hints = (size, left_over(config.fit, batches.steps_per_epoch))
    return "\n".join([*lines, *(f"note: {hint}" for hint in hints if hint)])


def left_over(fit: FitOptions, num_batches: int) -> str:
    """A line on the whole batches of an epoch that make no optimiser step; "" where there are none.

    Args:
        fit: of the run.
        num_batches: whole batches in an epoch.
    """
    left = num_batches % fit.accumulate_steps
    if not left:
        return ""
    return (
        f"{left} of the {num_batches} batches of an epoch ({left * fit.batch_size:,} images) are "
        f"left out, others each time: --accumulate-steps {fit.accumulate_steps} takes "
        f"{fit.accumulate_steps} at a time"
    )


def size_hint(stats: Sequence[ImageStats], config: TrainConfig, *, image_size: int) -> str:
    """What would be faster and as good: images at their own size, or a network for large ones.

    Args:
        stats: of some training images.
        config: of the run.
        image_size: side in pixels of what the network sees.

    Returns:
        A line, or "" where nothing is to be said.
    """
    backbone = config.model.backbone
    sides = sorted(min(image.width, image.height) for image in stats if not image.problem)
    usual = sides[len(sides) // 2] if sides else image_size
    fitting = -(-usual // 32) * 32
    if config.data.image_size is None and 2 * fitting <= image_size:
        return f"images of {usual} pixels are enlarged to {image_size}; see --image-size {fitting}"
    if backbone.endswith("_cifar") and image_size > LARGEST_SMALL:
        return f"{backbone} is for small images and slow at {image_size} pixels; see --backbone"
    return ""


def describe_data(data: Data) -> DataDescription:
    """The training set, for the report."""
    recipe = data.split.recipe
    profile = {"none": "as it is", "list": "rows from a file"}.get(
        recipe.kind, f"{recipe.kind}, imbalance factor {recipe.imbalance_factor or 1:g}"
    )
    return DataDescription(
        source=f"{data.source.name} ({profile}; {len(data.train):,} images{_left_out(data)})",
        split_sha256=data.split.sha256,
        counts_per_class=data.split.counts_per_class,
        class_names=data.source.class_names if data.split.counts_per_class else (),
        groups=data.groups,
        grouped_by=data.source.grouped_by,
        test_groups=_test_groups(data),
    )


def _test_groups(data: Data) -> str:
    test = data.encoded_test
    if test is None or test.group_ids is None:
        return ""
    return pack_groups(test.group_ids.numpy(), test.labels.numpy())


def _left_out(data: Data) -> str:
    if not data.bad_images:
        return ""
    return f", {len(data.bad_images):,} that cannot be read left out (bad_images.csv)"


def environment() -> Environment:
    """Device and versions."""
    versions = {}
    for package in _VERSIONS:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return Environment(device, world_size(), torch.get_num_threads(), versions)


def save_result(
    folder: RunFolder,
    data: Data,
    configuration: Mapping[str, Any],
    *,
    evaluations: Sequence[Evaluation],
    representations: Sequence[Representation] = (),
    left_out: Mapping[str, str] | None = None,
) -> RunResult:
    """Writes `results.json` from what the folder holds and what was measured."""
    stored = read_config(folder.config)
    result = RunResult(
        name=folder.path.name,
        verb=stored.verb,
        method=configuration[_CHOICE[stored.verb]],
        plugins=_added(configuration),
        command=stored.command,
        data=describe_data(data),
        configuration=configuration,
        environment=environment(),
        evaluations=tuple(evaluations),
        curves=read_curves(folder.metrics) if folder.metrics.is_file() else {},
        timing=_timing(folder),
        representations=tuple(representations),
        started_from=stored.started_from,
        weights=weights_of(folder, configuration),
        left_out=left_out or {},
    )
    write_results(result, folder.results)
    return result


def weights_of(folder: RunFolder, configuration: Mapping[str, Any]) -> str:
    """Such as "last epoch", see `describe_weights`; "" where nothing was trained."""
    if "epochs" not in configuration:
        return ""
    decay = configuration["ema"]
    averaged = f"averaged with decay {decay:g}" if decay else ""
    epochs = configuration["epochs"] + read_config(folder.config).epochs_before
    return describe_weights(folder.checkpoints, epochs=epochs, averaged=averaged)


def stored_result(folder: RunFolder) -> RunResult | None:
    """`results.json` of a finished run; None of another, whose weights still change.

    Raises:
        DataError: the file is damaged.
    """
    if not (folder.is_finished and folder.results.is_file()):
        return None
    return read_results(folder.results)


def _added(configuration: Mapping[str, Any]) -> tuple[str, ...]:
    """What is put on top of the method: plug-ins, or several experts."""
    experts = configuration.get("experts", "none")
    return (*configuration.get("plugins", ()), *([experts] if experts != "none" else ()))


def _timing(folder: RunFolder) -> Timing | None:
    """Seconds of all epochs together, and the median rate of one."""
    if not folder.timing.is_file():
        return None
    lines = [json.loads(line) for line in folder.timing.read_text().splitlines()]
    if not lines:
        return None
    rates = sorted(line["images_per_second"] for line in lines)
    return Timing(sum(line["seconds"] for line in lines), rates[len(rates) // 2])
