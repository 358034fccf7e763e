"""One fine-tuning run, from its configuration to its results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch
from ssl_lt.data.dataset import Data, check_labels
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.data.validation import with_validation
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.plan import EndOfEpoch
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.predictions import evaluate_predictions
from ssl_lt.evaluate.scores.softmax import Answers
from ssl_lt.evaluate.view_ensemble import Ensemble, ViewEnsemble
from ssl_lt.finetune.balance.tail_sharpness import tail_classes
from ssl_lt.finetune.experts.task import ExpertTask
from ssl_lt.finetune.learning_rates import lr_scales
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.models.tuning.apply import trained_share
from ssl_lt.runs.budget import within_budget
from ssl_lt.runs.build.batches import batch_plan
from ssl_lt.runs.build.defaults import as_stored, check_epochs, with_defaults
from ssl_lt.runs.build.experts import evaluate_routed
from ssl_lt.runs.build.finetuning import build_task, sampled_plan
from ssl_lt.runs.build.heads import head_init, start_head
from ssl_lt.runs.build.selection import check_selection
from ssl_lt.runs.build.views import worker_crop
from ssl_lt.runs.config.finetune import AnyFinetuneConfig
from ssl_lt.runs.config.stored import stored_finetuning
from ssl_lt.runs.inference.calibrate import calibrate_run
from ssl_lt.runs.life.find import new_run_path
from ssl_lt.runs.life.init_from import (
    InitSource,
    find_source,
    load_classifier,
    load_weights,
    start_from,
)
from ssl_lt.runs.life.start import check_network
from ssl_lt.runs.life.training import OpenRun, Training, is_finished, opened, train

# What is measured between epochs, under this name in the log.
_MEASURE = "accuracy"


def finetune(
    config: AnyFinetuneConfig,
    *,
    source: InitSource | None = None,
    resumed: RunFolder | None = None,
    given: frozenset[str] = frozenset(),
) -> RunFolder:
    """Trains a classifier.

    Args:
        config: of this one run.
        source: the weights to start from; None: what the configuration names.
        resumed: a run that goes on, in place of a new one.
        given: flags that `--budget` does not decide, because somebody has.

    Returns:
        The finished run.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    if resumed is not None and is_finished(resumed):
        return resumed
    begun_at = time.perf_counter()
    name = new_run_path("finetune", config.loss, config.data.data)
    with opened(config, config.run.run_dir or name, resumed) as run:
        if config.is_timed:
            check_classes(run.data)
            source = source or find_source(config.init_from, backbone=config.model.backbone)
            config = within_budget(run, config, source, given=given, begun_at=begun_at)
        return finetune_opened(run, config, source)


def finetune_opened(
    run: OpenRun, config: AnyFinetuneConfig, source: InitSource | None
) -> RunFolder:
    """`finetune` for a run whose data is open."""
    check_classes(run.data)
    data = with_validation(run.data, config.val_fraction)
    _check_selection(config, data)
    batches = batch_plan(config.run, config.fit, data)
    if run.begins:
        source = source or find_source(config.init_from, backbone=config.model.backbone)
        steps = batches.steps_per_epoch // config.fit.accumulate_steps
        config = with_defaults(config, source.start, steps_per_epoch=steps)
        check_epochs(config)
        head = head_init(config, from_weights=source.weights is not None)
    else:
        assert run.resumed is not None
        config = as_stored(config, stored_finetuning(run.resumed.config))
    task = build_task(config, data, data.validation)
    batches = sampled_plan(batches, task, config, data)
    facts: Mapping[str, str] = {}
    at_start: Mapping[str, float] = {}
    if run.begins:
        assert source is not None
        facts = start_from(
            task.backbone, source, config.model, run.data.spec, state=run.accelerator
        )
        if config.init_classifier:
            load_classifier(task.classifier, source)
        task.to(run.accelerator.device)
        if note := start_head(task, config, data, head):
            at_start = _measured(task, config, data)
            run.accelerator.print(f"{note}{_accuracy_note(at_start, data)}", flush=True)
    trained = trained_share(task.backbone, task.classifier)
    run.accelerator.print(f"trained: {trained} of backbone and classifier")
    test = data.test  # decodes it: a damaged image is found before the run begins

    def evaluate(folder: RunFolder, weights: str) -> Sequence[Evaluation]:
        calibrate_run(folder, task, data, config)
        if test is None:
            return ()
        return evaluate_trained(task, test, data, config, weights=weights)

    training = Training(
        "finetune",
        config,
        data,
        task,
        batches,
        crop=worker_crop(config, data.spec),
        end_of_epoch=lambda folder: _end_of_epoch(config, data),
        evaluate=evaluate,
        measure=_MEASURE,
        tail_classes=tail_classes(torch.tensor(data.split.counts_per_class), config.sharpness),
        lr_scale=lr_scales(task.backbone, config.rates, lr=config.optim.peak_lr),
        started_from=facts,
        at_start=at_start,
    )
    return train(run, training)


def check_classes(data: Data) -> None:
    """Raises ConfigError where there is nothing to tell apart: no labels, or one class."""
    check_labels(data, "fine-tuning")
    if data.num_classes < 2:
        name = data.source.name
        raise ConfigError(f"--data: {name} has one class; fine-tuning needs two classes")


def check_start(config: AnyFinetuneConfig, data: Data) -> None:
    """Loads what a run would start from, before others are trained to be compared with it.

    Args:
        config: of the run.
        data: opened; in any size.

    Raises:
        UserError: as `finetune` raises before its first step.
    """
    options = replace(config.data, test_split=data.options.test_split)
    data = with_validation(replace(data, options=options), config.val_fraction)
    source = find_source(config.init_from, backbone=config.model.backbone)
    head_init(config, from_weights=source.weights is not None)
    task = build_task(config, data, data.validation)
    load_weights(task.backbone, source, config.model, image_size=data.image_size)
    if config.init_classifier:
        load_classifier(task.classifier, source)
    check_network(task.backbone, config.model.backbone, image_size=data.image_size)


def _measured(task: ClassifierTask, config: AnyFinetuneConfig, data: Data) -> Mapping[str, float]:
    """The accuracy that is logged between epochs; nothing where none is asked for."""
    monitored = data.monitor_set()
    if monitored is None or not config.eval_every:
        return {}
    evaluation = evaluate_classifier(task, monitored, data, config, weights="")
    return {_MEASURE: evaluation.accuracy.balanced}


def _accuracy_note(at_start: Mapping[str, float], data: Data) -> str:
    """What the head that training starts at is worth, where accuracy is measured at all."""
    if not at_start:
        return ""
    part = "test" if data.validation is None else "validation"
    return f"; accuracy {at_start[_MEASURE]:.4g} on the {part} images before the first step"


def _check_selection(config: AnyFinetuneConfig, data: Data) -> None:
    others = ", or hold some of the training images out with --val-fraction 0.1"
    check_selection(config.fit, data, every=config.eval_every, flag="--eval-every", others=others)
    if config.fit.selects and not config.trains_classifier:
        raise ConfigError(
            "--classification-weight 0: its classifier is not trained, so that no "
            "epoch can be chosen by it with --keep best or --early-stop"
        )


def _end_of_epoch(config: AnyFinetuneConfig, data: Data) -> EndOfEpoch:
    def end_of_epoch(task: TrainTask, epoch: Epoch) -> Mapping[str, float]:
        assert isinstance(task, ClassifierTask)
        return _measured(task, config, data) if epoch.is_due(config.eval_every) else {}

    return end_of_epoch


def evaluate_trained(
    task: ClassifierTask,
    test: ImageTable,
    data: Data,
    config: AnyFinetuneConfig,
    *,
    weights: str,
    ensemble: Ensemble = "none",
) -> tuple[Evaluation, ...]:
    """All that a trained network has to say of the test split.

    Args:
        task: trained.
        test: what is judged by.
        data: of the run.
        config: of the run.
        weights: which it has, for a note.
        ensemble: views of an image whose answers are averaged, beside those to the image alone.
    """
    evaluations = [evaluate_classifier(task, test, data, config, weights=weights)]
    if isinstance(task, ExpertTask) and config.ensemble.experts == "ride":
        evaluations.append(evaluate_routed(task, test, data, config))
    if ensemble != "none":
        several = evaluate_classifier(task, test, data, config, weights=weights, ensemble=ensemble)
        evaluations.append(replace(several, name=f"classifier, {ensemble}"))
    return tuple(evaluations)


def evaluate_classifier(
    task: ClassifierTask,
    test: ImageTable,
    data: Data,
    config: AnyFinetuneConfig,
    *,
    weights: str,
    ensemble: Ensemble = "none",
) -> Evaluation:
    """The network's own predictions on the test split, or on what is watched while it trains."""
    network: nn.Module = nn.Sequential(task.backbone, task.classifier)
    if ensemble != "none":
        network = ViewEnsemble(network, ensemble)
    answers = embed_dataset(Answers(network), test, data, precision=config.fit.mixed_precision)
    predictions, confidence = answers.features.unbind(dim=1)
    return evaluate_predictions(
        "classifier",
        predictions.long().numpy(),
        answers.labels.numpy(),
        data,
        note=f"loss {config.loss}, {weights}",
        confidence=confidence.numpy(),
    )
