"""`evaluate.py`: judge a run on the balanced test split, and make its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from ssl_lt.cli import finetune, pretrain
from ssl_lt.cli.build import Data, build_backbone, check_labels, join_processes, open_data
from ssl_lt.cli.fields import to_mapping
from ssl_lt.cli.finetune import judge_classifier
from ssl_lt.cli.measure import features_of, judge
from ssl_lt.cli.options import EvaluateConfig, FinetuneConfig, PretrainConfig
from ssl_lt.cli.parse import parse, read_configs, split_arguments
from ssl_lt.cli.runs import RUNS, newest_run, run_verb_of, stored_values
from ssl_lt.cli.summary import save_result
from ssl_lt.cli.supervised import build_task
from ssl_lt.cli.weights_from import checkpoint_weights
from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.tables import FileTable, PixelTable
from ssl_lt.engine.run_folder import RunFolder, open_run_folder
from ssl_lt.engine.state import load_model_state
from ssl_lt.evaluate.features import Features
from ssl_lt.evaluate.knn import KNNOptions, knn_predict
from ssl_lt.evaluate.linear_probe import linear_probe
from ssl_lt.models.weights import load_backbone_weights
from ssl_lt.report.page import write_page
from ssl_lt.report.results import Evaluation
from ssl_lt.report.tables import summary_tables, to_rich


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    words = split_arguments(arguments)
    config = parse(EvaluateConfig(), words, read_configs(words), prog="evaluate.py")
    state = join_processes()
    folder = _folder(config.run)
    run_config = _run_config(folder, config)
    data = open_data(run_config.data, split_file=folder.split)
    check_labels(data, "evaluation")
    test = data.test()
    if test is None:
        raise DataError(f"--data: {data.source.name} has no test split to evaluate on")
    state.print(f"evaluating {folder.path} on {len(test):,} test images", flush=True)
    backbone, evaluations = _network(folder, run_config, data, test)
    evaluations += _representation(backbone, data, test, config)
    if config.random_init:
        seed, size = run_config.run.seed, data.image_size
        untrained, _ = build_backbone(run_config.model, image_size=size, seed=seed)
        found = _representation(untrained.to(_device()), data, test, config)
        evaluations += [replace(e, name=f"random init: {e.name}") for e in found]
    if not state.is_main_process:
        return 0
    verb = run_verb_of(folder)
    result = save_result(folder, data, to_mapping(run_config), verb=verb, evaluations=evaluations)
    page = folder.report / "index.html"
    write_page([result], page)
    console = Console()
    for table in summary_tables([result]):
        console.print(to_rich(table))
    print(f"report: {page.resolve()}")
    return 0


def _folder(run: str) -> RunFolder:
    if run != "auto":
        return open_run_folder(Path(run))
    newest = newest_run(["pretrain", "finetune"])
    if newest is None:
        raise ConfigError(f"--run: no run under {RUNS}/; pretrain.py makes one")
    return newest


def _run_config(folder: RunFolder, config: EvaluateConfig) -> PretrainConfig | FinetuneConfig:
    """The configuration the run was started with; its data may have moved since."""
    values = stored_values(folder)
    run_config: PretrainConfig | FinetuneConfig
    if run_verb_of(folder) == "pretrain":
        chosen = pretrain.default(values["method"], values["plugins"])
        run_config = parse(chosen, [], values, prog="")
    else:
        run_config = parse(finetune.default(values["loss"]), [], values, prog="")
    options = replace(run_config.data, num_workers=config.num_workers)
    if config.data_root is not None:
        options = replace(options, data_root=config.data_root)
    return replace(run_config, data=options)


def _network(
    folder: RunFolder,
    run_config: PretrainConfig | FinetuneConfig,
    data: Data,
    test: PixelTable | FileTable,
) -> tuple[nn.Module, list[Evaluation]]:
    """The run's backbone, and its classifier's accuracy where it has one."""
    weights, step = checkpoint_weights(folder)
    if not folder.is_finished:
        join_processes().print(f"note: this run is not finished; judging it after step {step}")
    if isinstance(run_config, FinetuneConfig):
        task = build_task(run_config, data)
        load_model_state(task, load_file(weights))
        task.to(_device())
        return task.backbone, [judge_classifier(task, test, data, run_config)]
    backbone, _ = build_backbone(
        run_config.model, image_size=data.image_size, seed=run_config.run.seed
    )
    load_backbone_weights(backbone, weights)
    return backbone.to(_device()), []


def _representation(
    backbone: nn.Module, data: Data, test: PixelTable | FileTable, config: EvaluateConfig
) -> list[Evaluation]:
    """KNN against the long-tailed training set, linear probes on it and on the whole one."""
    backbone = backbone.to(memory_format=torch.channels_last)
    size = config.batch_size
    bank = features_of(backbone, data.train, data, precision="auto", batch_size=size)
    queries = features_of(backbone, test, data, precision="auto", batch_size=size)
    labels = queries.labels.numpy()
    options = KNNOptions(k=min(config.knn_k, len(bank)), temperature=config.knn_temperature)
    predictions = knn_predict(bank, queries, num_classes=data.num_classes, options=options)
    note = f"k = {options.k}, temperature {options.temperature:g}, bank: long-tailed training set"
    evaluations = [judge("kNN", predictions.numpy(), labels, data, note=note)]
    for which in config.probe_on:
        train = bank
        if which == "all" and len(data.whole) != len(data.train):
            table = data.decoded(data.whole)
            train = features_of(backbone, table, data, precision="auto", batch_size=size)
        elif which == "all" and "long-tail" in config.probe_on:
            continue  # the same images: the data set is used as it is
        evaluations.append(_probe(train, queries, data, labels_of=which))
    return evaluations


def _probe(train: Features, test: Features, data: Data, *, labels_of: str) -> Evaluation:
    result = linear_probe(train, test, num_classes=data.num_classes)
    name = "linear probe" if labels_of == "all" else "linear probe, long-tailed"
    note = (
        f"{len(train):,} labelled images, L2 strength {result.l2:g} chosen on held-out training "
        "images"
    )
    predictions: np.ndarray[tuple[int], np.dtype[np.int64]] = result.predictions.numpy()
    return judge(name, predictions, test.labels.numpy(), data, note=note)


def _device() -> torch.device:
    """A GPU where there is one."""
    return torch.device(join_processes().device)
