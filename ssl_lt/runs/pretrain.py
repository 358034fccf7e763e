"""One pretraining run, from its configuration to its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from accelerate import Accelerator
from safetensors.torch import save_file

from ssl_lt.augment.views import WorkerCrop
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Epoch
from ssl_lt.data.dataset import Data, check_labels
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.plan import EndOfEpoch
from ssl_lt.evaluate.monitor import Monitor
from ssl_lt.pretrain.two_views import TwoViewTask
from ssl_lt.runs.build.batches import batch_plan
from ssl_lt.runs.build.knn_data import open_knn_data
from ssl_lt.runs.build.pretraining import build_task
from ssl_lt.runs.build.selection import check_selection
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.config.stored import read_config
from ssl_lt.runs.life.extension import Earlier, earlier_run, start_of
from ssl_lt.runs.life.find import new_run_path
from ssl_lt.runs.life.init_from import InitSource, find_source, start_from
from ssl_lt.runs.life.place import source_at
from ssl_lt.runs.life.training import OpenRun, Training, is_finished, opened, train


def pretrain(
    config: PretrainConfig,
    *,
    source: InitSource | None = None,
    resumed: RunFolder | None = None,
) -> RunFolder:
    """Trains a backbone without labels.

    Args:
        config: of the run.
        source: the weights to start from; None: what the configuration names.
        resumed: a run that goes on, in place of a new one.

    Returns:
        The finished run.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    if resumed is not None and is_finished(resumed):
        return resumed
    begins = resumed is None or not resumed.has_checkpoints
    earlier = earlier_run(config.extend) if config.extend is not None and begins else None
    name = new_run_path("pretrain", config.method, *config.plugins, config.data.data)
    with opened(config, config.run.run_dir or name, resumed) as run:
        data = run.data
        judged = _judged(config, run)
        check_selection(config.fit, judged, every=config.knn_every, flag="--knn-every", others="")
        if config.fit.selects:
            check_labels(judged, "choosing an epoch by kNN")
        batches = batch_plan(config.run, config.fit, data)
        if config.fit.batch_size < 2:
            raise ConfigError(
                f"--batch-size {config.fit.batch_size}: contrast needs 2 images or more"
            )
        before = _epochs_before(earlier, resumed)
        task = build_task(config, data, epochs_before=before)
        facts: Mapping[str, str] = {}
        start = None
        if earlier is not None:
            start = start_of(earlier, task, data, more_epochs=config.fit.num_epochs)
            facts = earlier.facts(data)
            run.accelerator.print(start.note, flush=True)
        elif run.begins:
            source = source or find_source(config.init_from, backbone=config.model.backbone)
            facts = start_from(
                task.backbone, source, config.model, run.data.spec, state=run.accelerator
            )
        if config.knn_every:
            judged.monitor_set()  # decodes it: a damaged image is found before the run begins
        training = training_of(run, config, task, batches, judged)
        return train(run, replace(training, started_from=facts, epochs_before=before, start=start))


def _judged(config: PretrainConfig, run: OpenRun) -> Data:
    """What kNN is measured on between epochs: the run's own data, or `--knn-data`."""
    if config.knn_data is None or not config.knn_every:
        return run.data
    source = config.knn_data if run.resumed is None else source_at(run.resumed, config.knn_data)
    return open_knn_data(source, run.data)


def _epochs_before(earlier: Earlier | None, resumed: RunFolder | None) -> int:
    """Epochs that were trained before this run began, where it extends another one."""
    if earlier is not None:
        return earlier.epochs
    return 0 if resumed is None else read_config(resumed.config).epochs_before


def training_of(
    run: OpenRun,
    config: PretrainConfig,
    task: TwoViewTask,
    batches: BatchSchedule,
    judged: Data | None = None,
) -> Training:
    """What an open run trains, with kNN measured on its own data or on other."""
    judged = judged or run.data
    return Training(
        "pretrain",
        config,
        run.data,
        task,
        batches,
        crop=WorkerCrop((config.view, config.view), seed=config.run.seed),
        end_of_epoch=lambda folder: _end_of_epoch(config, run, judged, folder),
        evaluate=lambda folder, weights: (),
        measure="knn",
        digests={} if judged is run.data else {"knn-data": f"{judged.sha256} {judged.test_sha256}"},
    )


def _end_of_epoch(
    config: PretrainConfig, run: OpenRun, judged: Data, folder: RunFolder
) -> EndOfEpoch:
    precision, warn = config.fit.mixed_precision, run.accelerator.print
    monitor = Monitor(run.data, precision, judged=judged, warn=warn)

    def end_of_epoch(task: TrainTask, epoch: Epoch) -> Mapping[str, float]:
        assert isinstance(task, TwoViewTask)
        save_scores(task, folder, epoch, run.accelerator)
        return monitor(task.backbone) if epoch.is_due(config.knn_every) else {}

    return end_of_epoch


def save_scores(
    task: TwoViewTask, folder: RunFolder, epoch: Epoch, accelerator: Accelerator
) -> None:
    """What the plug-ins know of each sample after an epoch: `scores/epoch-0001.safetensors`."""
    scores = {name: score.cpu().contiguous() for name, score in task.scores().items()}
    if scores and accelerator.is_main_process:
        folder.scores.mkdir(exist_ok=True)
        save_file(scores, folder.scores / f"epoch-{epoch.number + 1:04d}.safetensors")
