"""`ssl-lt retrain`: other classifiers on a run's frozen features, in seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import ConfigError, DataError, NumericError
from ssl_lt.core.standardise import standardised
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.predictions import evaluate_predictions
from ssl_lt.evaluate.scores.softmax import softmax_answers
from ssl_lt.finetune.retraining.cached import CachedFeatures
from ssl_lt.finetune.retraining.post_hoc import check_costs
from ssl_lt.finetune.retraining.registry import RETRAINING
from ssl_lt.report.tables.table import Column, Format, Table, text_columns, to_rich
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.retrain import RetrainConfig
from ssl_lt.runs.life.place import Moved
from ssl_lt.runs.life.processes import join_processes
from ssl_lt.runs.life.same_run import check_processes
from ssl_lt.runs.life.saved_run import (
    SavedNetwork,
    SavedRun,
    device,
    load_network,
    open_saved_run,
    record,
)


@dataclass(frozen=True)
class Retrained:
    """One classifier, judged; `seconds` of fitting it and of classifying the test images."""

    evaluation: Evaluation
    seconds: float


def retrain(config: RetrainConfig) -> None:
    """Fits other classifiers to the frozen features of a run and adds them to its results.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    state = join_processes()
    check_processes(config)
    run = open_saved_run(
        config.run,
        moved=Moved(config.data, config.data_root),
        num_workers=config.num_workers,
        verb="retraining",
    )
    costs = None if config.costs is None else read_costs(config.costs, run.data.num_classes)
    state.print(
        f"retraining on {run.folder.path}: {len(run.data.train):,} training images, "
        f"{len(run.test):,} test images",
        flush=True,
    )
    cached, labels = _cache(run, load_network(run.folder, run.config, run.data), config, costs)
    if not state.is_main_process:
        return
    found = [_judged(name, cached, labels, run, config) for name in _possible(cached, config)]
    evaluations = [each.evaluation for each in found]
    record(run, [*run.others(evaluations), *evaluations])
    Terminal().print(to_rich(_seconds_table(found)))


def read_costs(path: Path, num_classes: int) -> Tensor:
    """(C, C) costs from a text file: a line a class, commas or spaces between the numbers.

    Raises:
        DataError: no such file, no numbers, or no cost matrix; one line that names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        rows = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
        costs = torch.from_numpy(np.array(rows, dtype=np.float32, ndmin=2))
    except OSError as error:
        raise DataError(f"--costs: {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"--costs: {path}: not a table of numbers") from error
    try:
        check_costs(costs, num_classes=num_classes)
    except DataError as error:
        raise DataError(f"--costs: {path}: {error}") from error
    return costs


def _cache(
    run: SavedRun, network: SavedNetwork, config: RetrainConfig, costs: Tensor | None
) -> tuple[CachedFeatures, Tensor]:
    """What the methods work on, and the labels of the test images, which they do not see.

    Raises:
        ConfigError: the backbone gives more than one vector an image.
        NumericError: a feature is not finite.
    """
    backbone = network.backbone.to(memory_format=torch.channels_last)
    own = run.data.validation
    tables = [run.data.train, run.test, *([] if own is None else [own])]
    train, test, *validation = (
        embed_dataset(backbone, table, run.data, precision="auto", batch_size=config.batch_size)
        for table in tables
    )
    if train.features.ndim != 2:
        raise ConfigError(f"--run: {run.folder.path} has several feature vectors an image, not one")
    if not all(bool(part.features.isfinite().all()) for part in (train, test, *validation)):
        raise NumericError(f"--run: {run.folder.path}: a feature is not finite")
    trained, stored = None, run.config
    origin = "a plain linear classifier of standardised features"
    if network.task is not None and isinstance(stored, FinetuneConfig) and stored.trains_classifier:
        origin = f"the run's classifier, loss {stored.loss}"
        trained = network.task.classifier.eval().requires_grad_(requires_grad=False)
    features, queries, *others = (part.features.to(device()) for part in (train, test, *validation))
    if trained is None:
        features, queries, *others = standardised(features, queries, *others)
    cached = CachedFeatures(
        features=features,
        labels=train.labels.to(device()),
        queries=queries,
        held_out=train.held_out(share=config.held_out, seed=config.seed).to(device()),
        num_classes=run.data.num_classes,
        trained=trained,
        origin=origin,
        sgd=config.sgd,
        seed=config.seed,
        costs=None if costs is None else costs.to(device()),
        validation=(others[0], validation[0].labels.to(device())) if validation else None,
    )
    return cached, test.labels


def _possible(cached: CachedFeatures, config: RetrainConfig) -> list[str]:
    """The classifiers asked for; "all" leaves out those that do not go with the run.

    Raises:
        ConfigError: one was named that does not.
    """
    possible = []
    for name in config.names:
        refusal = RETRAINING[name].refusal(cached)
        if refusal is None:
            possible.append(name)
        elif name in config.classifier:
            raise ConfigError(f"--classifier {name}: {refusal}")
        else:
            print(f"note: without {name}: {refusal}")
    return possible


def _judged(
    name: str, cached: CachedFeatures, labels: Tensor, run: SavedRun, config: RetrainConfig
) -> Retrained:
    entry = RETRAINING[name]
    started = time.perf_counter()
    answer = entry.run(cached, config.options)
    predictions = answer.predictions.cpu().numpy()  # waits for the device
    seconds = time.perf_counter() - started
    confidence = None if answer.logits is None else softmax_answers(answer.logits)[1].numpy()
    found = evaluate_predictions(
        entry.title,
        predictions,
        labels.numpy(),
        run.data,
        note=answer.note,
        confidence=confidence,
    )
    return Retrained(found, seconds)


def _seconds_table(found: Sequence[Retrained]) -> Table:
    return Table(
        title="How they were made",
        note="Seconds of fitting and of classifying the test images, without their features. "
        "Strengths are chosen on validation or training images, never on the test split.",
        columns=(*text_columns("Evaluation", "How"), Column("Seconds", Format(2))),
        rows=tuple((r.evaluation.name, r.evaluation.note, r.seconds) for r in found),
    )
