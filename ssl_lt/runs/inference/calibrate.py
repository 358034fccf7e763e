"""The temperature of a classifier: when a run ends, or on images that the user gives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ssl_lt.core.errors import DataError
from ssl_lt.core.processes.distributed import rank
from ssl_lt.data.dataset import Data
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.scores.temperature import fit_temperature
from ssl_lt.evaluate.view_ensemble import Ensemble, ViewEnsemble
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.runs.build.prior import logit_log_prior
from ssl_lt.runs.config.finetune import AnyFinetuneConfig
from ssl_lt.runs.inference.facts import Temperature, write_temperature
from ssl_lt.runs.inference.images import ImageOptions, NamedImages
from ssl_lt.runs.inference.model import TrainedModel
from ssl_lt.runs.inference.reading import answers

_MOST_LOGITS = 1 << 28  # of the validation images together: 1 GiB


def calibrate_run(
    folder: RunFolder, task: ClassifierTask, data: Data, config: AnyFinetuneConfig
) -> None:
    """Fits the temperature on the run's validation images and keeps it; without any, does nothing.

    Args:
        folder: of the run.
        task: with the weights that are evaluated.
        data: of the run.
        config: of the run.
    """
    images = data.validation
    if images is None or not config.trains_classifier:
        return
    images = enough(images, data.num_classes)
    network = nn.Sequential(task.backbone, task.classifier)
    seen = embed_dataset(network, images, data, precision=config.fit.mixed_precision)
    if not bool(seen.features.isfinite().all()):
        return  # which the evaluation says
    own = logit_log_prior(config, data.split.counts_per_class)
    value = fit_temperature(seen.features, seen.labels, weights=to_prior(own, seen.labels))
    if rank() > 0:
        return
    _, step = evaluated_weights(folder.checkpoints)
    of = "validation images"
    if data.held_out is not None:
        of = f"training images held out by --val-fraction {config.val_fraction:g}"
    write_temperature(folder, Temperature(value, of, len(seen), step))


def calibrate_on(
    images: NamedImages, model: TrainedModel, options: ImageOptions, ensemble: Ensemble
) -> Temperature:
    """The temperature on labelled images that the user gives.

    Args:
        images: of classes of the model; others are not used.
        model: with a classifier.
        options: how images are read.
        ensemble: views whose logits are averaged.

    Raises:
        DataError: no labels, a class that the model does not know, or no image that can be read.
    """
    flag = f"--calibrate-on: {images.what}"
    if not images.class_names:
        raise DataError(f"{flag}: has no labels")
    number = {name: c for c, name in enumerate(model.class_names)}
    for name in images.class_names:
        if name not in number:
            raise DataError(f"{flag}: class {name!r} is none of those of {model.name}")
    labels = torch.tensor([number[name] for name in images.class_names])[images.table.labels]
    table = enough(images.table.with_labels(labels), len(number))
    seen = [
        (out, table.labels[list(batch.rows)])
        for batch, out in answers(
            ViewEnsemble(model, ensemble), model, table, options, label="calibrating"
        )
        if batch.rows
    ]
    if not seen:
        raise DataError(f"{flag}: none of its images can be read")
    logits, known = (torch.cat(parts) for parts in zip(*seen, strict=True))
    own = torch.tensor(model.facts.log_prior, dtype=torch.float64)
    value = fit_temperature(logits, known, weights=to_prior(own, known))
    return Temperature(value, images.what, len(known))


def enough(table: ImageTable, num_classes: int) -> ImageTable:
    """The table, or evenly spaced images of it where all logits would take too much memory."""
    most = max(1, _MOST_LOGITS // num_classes)
    if len(table) <= most:
        return table
    return table.take(np.linspace(0, len(table) - 1, most).astype(np.int64))


def to_prior(log_prior: Tensor, labels: Tensor) -> Tensor:
    """(N,) weights under which the classes of the labels are as likely as a prior says.

    Probabilities are judged under the prior that they are for: after logit adjustment, where all
    classes are equal, the few images of a rare class count as much as the many of another.

    Args:
        log_prior: (C,) of the plain logits.
        labels: (N,) int64.
    """
    counts = torch.bincount(labels, minlength=len(log_prior)).double()
    return (log_prior.double().exp() / counts.clamp(min=1))[labels]
