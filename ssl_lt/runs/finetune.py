"""One fine-tuning run, from its configuration to its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch
from ssl_lt.data.dataset import Data, train_loader, training_and_validation
from ssl_lt.data.loading.plan import BatchPlan
from ssl_lt.data.tables.table import EncodedTable, PixelTable
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.fit import fit
from ssl_lt.engine.parallel import check_sharing
from ssl_lt.engine.plan import Plan
from ssl_lt.evaluate.features.embed import features_of
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.evaluate.scores.judge import judge
from ssl_lt.evaluate.scores.softmax import softmax_answers
from ssl_lt.finetune.experts.task import ExpertTask
from ssl_lt.finetune.learning_rates import lr_scales
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.models.export import export_backbone
from ssl_lt.runs.build.batches import batch_plan
from ssl_lt.runs.build.experts import judge_routed
from ssl_lt.runs.build.finetuning import build_task, sampled_plan, worker_crop
from ssl_lt.runs.config.options import FinetuneConfig
from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.life.find import identity
from ssl_lt.runs.life.init_from import Origin, find_origin, load_classifier, load_weights
from ssl_lt.runs.life.processes import launcher_sharing
from ssl_lt.runs.life.result import describe_start, save_result
from ssl_lt.runs.life.start import start_run


def run(
    config: FinetuneConfig,
    data: Data,
    origin: Origin | None,
    *,
    name: Path,
    resumed: RunFolder | None,
    accelerator: Accelerator,
) -> RunFolder:
    """Trains and judges; a run that was begun goes on.

    Args:
        config: of this one run.
        data: with labels.
        origin: the weights to start from; None: what the configuration names.
        name: folder of a new run.
        resumed: a run that goes on, in place of a new one.
        accelerator: made for this run.

    Returns:
        The finished run.
    """
    whole = data
    data, held_out = training_and_validation(whole, config.hold_out)
    plan = batch_plan(config.run, config.fit, data)
    task = build_task(config, data, held_out)
    check_sharing(task, launcher_sharing(), config.optim, config.fit)
    plan = sampled_plan(plan, task, config, data)
    if resumed is None or not any(resumed.checkpoints.glob("step-*")):
        origin = origin or find_origin(config.init_from)
        report = load_weights(task.backbone, origin)
        if config.init_classifier:
            load_classifier(task.classifier, origin)
        accelerator.print(origin.note + (f": {report}" if report else ""))
    data.test()  # decodes it: a damaged image is found before the run begins
    folder = resumed or start_run(name, config, whole, accelerator, verb="finetune")
    with run_lock(folder):
        train(task, config, data, plan, folder=folder, accelerator=accelerator)
    return folder


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
    test, watched = data.test(), data.watched()

    def end_of_epoch(task: TrainTask, epoch: Epoch) -> Mapping[str, float]:
        assert isinstance(task, ClassifierTask)
        if watched is None or not epoch.is_due(config.eval_every):
            return {}
        return {"accuracy": judge_classifier(task, watched, data, config).accuracy.balanced}

    fit(
        task,
        loader,
        Plan(
            config.fit,
            config.optim,
            config.schedule,
            config.run.seed,
            lr_scales(task.backbone, config.rates, lr=config.optim.lr),
            identity(config, data_sha256=data.sha256),
            launcher_sharing(),
        ),
        accelerator=accelerator,
        folder=folder,
        end_of_epoch=end_of_epoch,
    )
    evaluations = () if test is None else judge_trained(task, test, data, config)
    if accelerator.is_main_process:
        save_result(folder, data, to_mapping(config), verb="finetune", evaluations=evaluations)
        source, size = data.source, data.image_size
        # Last: a run that has it is finished.
        export_backbone(
            task.backbone, folder.exported, image_size=size, mean=source.mean, std=source.std
        )
        print(f"finished: {folder.path}")
    accelerator.end_training()


def judge_trained(
    task: ClassifierTask, test: PixelTable | EncodedTable, data: Data, config: FinetuneConfig
) -> tuple[Evaluation, ...]:
    """All that a trained network has to say of the test split."""
    found = judge_classifier(task, test, data, config)
    if isinstance(task, ExpertTask) and config.ensemble.experts == "ride":
        return found, judge_routed(task, test, data, config)
    return (found,)


def judge_classifier(
    task: ClassifierTask, test: PixelTable | EncodedTable, data: Data, config: FinetuneConfig
) -> Evaluation:
    """The network's own predictions on the test split, or on what is watched while it trains."""
    network = nn.Sequential(task.backbone, task.classifier)
    precision = config.fit.mixed_precision
    found = features_of(network, test, data, precision=precision)
    predictions, confidence = softmax_answers(found.features)
    return judge(
        "classifier",
        predictions.numpy(),
        found.labels.numpy(),
        data,
        note=f"loss {config.loss}, last epoch",
        confidence=confidence.numpy(),
    )
