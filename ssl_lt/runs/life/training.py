"""The one life of a run that trains: open, build, fit, evaluate, record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.data.dataset import Data, open_data, train_loader
from ssl_lt.data.images.crops import Crop
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder, check_is_new
from ssl_lt.engine.fit import fit
from ssl_lt.engine.grad_checkpointing import checkpoint_activations
from ssl_lt.engine.optim import LrScale, same_rate
from ssl_lt.engine.plan import EndOfEpoch, FitSettings
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.models.export import export_backbone
from ssl_lt.runs.config.stored import TrainConfig, effective_mapping
from ssl_lt.runs.inference.facts import facts_of, write_facts
from ssl_lt.runs.life.extension import Start
from ssl_lt.runs.life.place import check_unchanged, located
from ssl_lt.runs.life.processes import build_accelerator
from ssl_lt.runs.life.result import describe_start, save_result, weights_of
from ssl_lt.runs.life.same_run import check_processes, identity
from ssl_lt.runs.life.start import check_network, removed_if_nothing_came, start_run


@dataclass(frozen=True)
class OpenRun:
    """A run that is about to be built, new or resumed.

    Attributes:
        path: of its folder, which a new run does not have yet.
        resumed: a run that goes on; None: a new one.
        data: what it is trained on.
        accelerator: made for it.
    """

    path: Path
    resumed: RunFolder | None
    data: Data
    accelerator: Accelerator

    @property
    def begins(self) -> bool:
        """There is no checkpoint yet that its weights are in."""
        return self.resumed is None or not self.resumed.has_checkpoints


@dataclass(frozen=True)
class Training:
    """What a verb trains.

    Attributes:
        verb: "pretrain" or "finetune".
        config: of the run.
        data: the images to learn from.
        task: the step.
        batches: which images are in which step.
        crop: what loader workers cut where images do not fit into memory.
        end_of_epoch: what is measured between epochs.
        evaluate: the trained network on the test split, for `results.json`; takes the folder and a
            description of its weights.
        measure: name of the number that epochs are chosen by, among those of `end_of_epoch`.
        lr_scale: factors on the learning rate, by name of the parameter.
        started_from: facts of the weights, see `InitSource`.
        tail_classes: (C,) bool, as in `FitSettings`.
        epochs_before: that an extended run has trained before this one begins.
        start: what this one then begins with; None of others, and of a run that goes on.
        digests: flag -> SHA-256, of other data that a number of its log depends on.
        at_start: what was measured before the first step, as in `FitSettings`.
    """

    verb: str
    config: TrainConfig
    data: Data
    task: TrainTask
    batches: BatchSchedule
    crop: Crop
    end_of_epoch: Callable[[RunFolder], EndOfEpoch]
    evaluate: Callable[[RunFolder, str], Sequence[Evaluation]]
    measure: str
    lr_scale: LrScale = same_rate
    started_from: Mapping[str, str] = field(default_factory=dict)
    tail_classes: Tensor | None = None
    epochs_before: int = 0
    start: Start | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    at_start: Mapping[str, float] = field(default_factory=dict)

    def settings(self, data_sha256: str) -> FitSettings:
        """What the loop is told: of all epochs, also of those before."""
        config = self.config
        own = identity(config, data_sha256=data_sha256)
        return FitSettings(
            replace(config.fit, epochs=self.epochs_before + config.fit.num_epochs),
            config.optim,
            config.schedule,
            config.run.seed,
            lr_scale=self.lr_scale,
            identity=replace(own, options={**own.options, **self.digests}),
            measure=self.measure,
            at_start=self.at_start,
            tail_classes=self.tail_classes,
        )


def is_finished(resumed: RunFolder) -> bool:
    """Says so where a run that should go on has nothing left to do."""
    if resumed.is_finished:
        print(f"{resumed.path} is finished: nothing to do")
    return resumed.is_finished


@contextmanager
def opened(config: TrainConfig, path: Path, resumed: RunFolder | None) -> Iterator[OpenRun]:
    """Checks, processes and data, in the order in which faults are cheapest to find.

    Args:
        config: of the run.
        path: of a new run's folder.
        resumed: a run that goes on; it is locked meanwhile.

    Raises:
        ConfigError: the folder exists, or a flag does not fit.
        DataError, DistributedError: as `open_data` and `check_processes` say.
    """
    if config.optim.sam and config.fit.mixed_precision == "fp16":
        raise ConfigError("--sam: does not go with --mixed-precision fp16; bf16 does")
    if resumed is None:
        check_is_new(path)  # before minutes are spent on data
    accelerator = build_accelerator(config.fit, path)
    check_processes(config, resumed)
    with run_lock(resumed):
        if resumed is None:
            data = open_data(config.data)
        else:
            data = open_data(located(resumed, config.data), stored=resumed.split_files)
            check_unchanged(resumed, data)
        yield OpenRun(path, resumed, data, accelerator)


def train(run: OpenRun, training: Training) -> RunFolder:
    """Fits, evaluates, exports and writes the results.

    Args:
        run: opened; its data is what the folder of a new run records.
        training: built for it.

    Returns:
        The finished run.
    """
    config, accelerator, data = training.config, run.accelerator, training.data
    if config.fit.grad_checkpointing:
        checkpoint_activations(training.task.backbone)
    if run.resumed is None:
        backbone, size = training.task.backbone, data.image_size
        check_network(backbone, config.model.backbone, image_size=size)
    folder = run.resumed or start_run(
        run.path,
        config,
        run.data,
        accelerator,
        verb=training.verb,
        started_from=training.started_from,
    )
    settings = training.settings(run.data.sha256)
    with ExitStack() as stack:
        if run.resumed is None:  # the lock of a resumed run is held by `opened`
            stack.enter_context(removed_if_nothing_came(folder))
            stack.enter_context(run_lock(folder))
        if training.start is not None:
            steps = training.batches.steps_per_epoch // config.fit.accumulate_steps
            training.start.save(folder, settings, steps_per_epoch=steps, accelerator=accelerator)
        if accelerator.is_main_process:
            if not folder.inference.is_file():
                write_facts(folder, facts_of(config, data))
            told = describe_start(folder, data, config, accelerator, training.batches)
            print(told, flush=True)
        fit(
            training.task,
            train_loader(data, training.batches, training.crop, device=accelerator.device),
            settings,
            accelerator=accelerator,
            folder=folder,
            end_of_epoch=training.end_of_epoch(folder),
        )
        mapping = effective_mapping(config)
        evaluations = training.evaluate(folder, weights_of(folder, mapping))
        if accelerator.is_main_process:
            save_result(folder, data, mapping, evaluations=evaluations)
            # Last: a run that has it is finished.
            export_backbone(training.task.backbone, folder.exported, images=data.spec)
            print(f"finished: {folder.path}")
        for tracker in accelerator.trackers:
            tracker.finish()
    return folder
