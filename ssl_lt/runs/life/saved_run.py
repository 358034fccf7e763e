"""A run on disk, opened to be judged: its configuration, its data and its networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import nn

from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import DataError
from ssl_lt.data.dataset import Data, check_labels, open_data
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.data.validation import with_validation
from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.checkpoints.state import load_model_state
from ssl_lt.evaluate.geometry.representation import Representation
from ssl_lt.evaluate.picture_records import read_pictures
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.models.backbones import build_backbone
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.weights import load_backbone_weights
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.records.results import RunResult
from ssl_lt.report.tables.summary import leading_table
from ssl_lt.report.tables.table import Table, to_rich
from ssl_lt.runs.build.finetuning import build_task
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.stored import AnyConfig, TrainConfig, effective_mapping, read_config
from ssl_lt.runs.life.find import find_run
from ssl_lt.runs.life.init_from import InitSource, start_from
from ssl_lt.runs.life.place import Moved, located
from ssl_lt.runs.life.processes import join_processes
from ssl_lt.runs.life.result import save_result, stored_result
from ssl_lt.runs.life.start import check_network

Measured = TypeVar("Measured", Evaluation, Representation)


@dataclass(frozen=True)
class SavedRun:
    """A run and its data.

    Attributes:
        folder: of the run.
        config: it was started with, or what evaluate.py was asked for where weights are judged
            without a run; its data may have moved since.
        data: its training subset.
        test: what it is judged by.
        stored: its `results.json` so far; None of a run that is not finished.
    """

    folder: RunFolder
    config: AnyConfig
    data: Data
    test: ImageTable
    stored: RunResult | None

    def others(self, new: Sequence[Evaluation]) -> list[Evaluation]:
        """The evaluations so far whose names are not among the new ones."""
        return _unnamed((self.stored.evaluations if self.stored else ()), new)


@dataclass(frozen=True)
class SavedNetwork:
    """What a run has learned, on the device of this process.

    Attributes:
        backbone: (B, 3, S, S) -> (B, D).
        task: of a fine-tuned run, with the classifier; None of a pretrained one.
    """

    backbone: nn.Module
    task: ClassifierTask | None


def open_saved_run(run: str, *, moved: Moved, num_workers: int, verb: str) -> SavedRun:
    """A run with labelled data and a test split, for a verb that judges it.

    Args:
        run: a folder, or "auto" for the newest one under runs/.
        moved: where the data is now.
        num_workers: processes that decode what does not fit into memory.
        verb: for messages: "evaluation".

    Raises:
        ConfigError: there is no such run, or its data has no labels.
        DataError: there is no test split, or `results.json` is damaged.
    """
    folder = find_run(run)
    stored = stored_result(folder)
    config = run_config_of(folder, moved=moved, num_workers=num_workers)
    data = open_run_data(folder, config, verb=verb)
    return SavedRun(folder, config, data, test_split(data, verb), stored)


def test_split(data: Data, verb: str) -> ImageTable:
    """What is judged by.

    Raises:
        DataError: there is none.
    """
    if data.test is None:
        raise DataError(f"--data: {data.source.name} has no test split, and {verb} needs one")
    return data.test


def open_run_data(folder: RunFolder, config: AnyConfig, *, verb: str | None = None) -> Data:
    """The data of a run on disk, with the validation images it held out.

    Args:
        folder: of the run.
        config: of the run.
        verb: that needs labels, for the message; None: they may lack.

    Raises:
        UserError: as `open_data`, `check_labels` and `with_validation` say.
    """
    data = open_data(located(folder, config.data), stored=folder.split_files)
    if verb is not None:
        check_labels(data, verb)
    share = config.val_fraction if isinstance(config, FinetuneConfig) else 0.0
    return with_validation(data, share)


def record(
    run: SavedRun,
    evaluations: Sequence[Evaluation],
    representations: Sequence[Representation] = (),
    *,
    left_out: Mapping[str, str] | None = None,
    shown: Callable[[Sequence[RunResult]], Sequence[Table]] = leading_table,
) -> None:
    """Writes the run's `results.json` and its page anew, and prints tables.

    Args:
        run: that was judged.
        evaluations: all of them, in the order of the report.
        representations: the new ones; others that were stored are kept.
        left_out: name of an evaluation that could not be made -> why; None: as it was.
        shown: which tables are printed; all are on the page.
    """
    earlier = _unnamed((run.stored.representations if run.stored else ()), representations)
    if left_out is None:
        left_out = run.stored.left_out if run.stored else {}
    result = save_result(
        run.folder,
        run.data,
        effective_mapping(run.config),
        evaluations=evaluations,
        representations=[*representations, *earlier],
        left_out=left_out,
    )
    page = run.folder.report / "index.html"
    pictures = read_pictures(run.folder.report, num_classes=len(result.data.class_names))
    write_page([result], page, pictures=[pictures])
    console = Terminal()
    for table in shown([result]):
        console.print(to_rich(table))
    for representation in result.representations:
        for warning in representation.warnings:
            print(f"warning: {representation.name}: {warning}")
    print(f"report: {page.resolve()}")


def run_config_of(folder: RunFolder, *, moved: Moved, num_workers: int) -> TrainConfig:
    """The configuration the run was started with; its data may have moved since."""
    config = read_config(folder.config).config
    return replace(config, data=replace(moved.of(config.data), num_workers=num_workers))


def load_network(folder: RunFolder, config: AnyConfig, data: Data) -> SavedNetwork:
    """The networks that the run is judged by; labels and a test split may lack.

    Raises:
        CheckpointError: there is none, or it does not fit the configuration.
    """
    weights, step = evaluated_weights(folder.checkpoints)
    if not folder.is_finished:
        join_processes().print(f"note: this run is not finished; taking it after step {step}")
    if isinstance(config, FinetuneConfig):
        task = build_task(config, data)
        load_model_state(task, load_file(weights))
        task.to(device())
        return SavedNetwork(task.backbone, task)
    backbone, _ = build_backbone(config.model, image_size=data.image_size, seed=0)
    load_backbone_weights(backbone, weights)
    return SavedNetwork(backbone.to(device()), None)


def load_weights_alone(
    source: InitSource, model: ModelOptions, data: Data
) -> tuple[nn.Module, Mapping[str, str]]:
    """A backbone with weights that belong to no run, on the device of this process.

    Args:
        source: of the weights.
        model: of the backbone.
        data: that it is shown.

    Returns:
        The backbone, and the facts of the weights.

    Raises:
        UserError: as `start_from` and `check_network` say.
    """
    backbone, _ = build_backbone(model, image_size=data.image_size, seed=0)
    facts = start_from(backbone, source, model, data.spec, state=join_processes())
    check_network(backbone, model.backbone, image_size=data.image_size)
    return backbone.to(device()), facts


def _unnamed(stored: Sequence[Measured], new: Sequence[Measured]) -> list[Measured]:
    """What is stored under names that none of the new ones has."""
    names = {measured.name for measured in new}
    return [measured for measured in stored if measured.name not in names]


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device(join_processes().device)
