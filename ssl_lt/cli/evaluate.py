"""`evaluate.py`: judge a run on the balanced test split, and make its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ssl_lt.cli.build import Data, build_backbone, join_processes
from ssl_lt.cli.finetune_run import judge_trained
from ssl_lt.cli.measure import features_of, judge
from ssl_lt.cli.options import EvaluateConfig, FinetuneConfig, PretrainConfig
from ssl_lt.cli.parse import parse, read_configs, split_arguments
from ssl_lt.cli.saved_run import device, load_network, open_saved_run, record
from ssl_lt.cli.supervised import build_parts
from ssl_lt.data.tables import FileTable, PixelTable
from ssl_lt.evaluate.features import Features
from ssl_lt.evaluate.knn import KNNOptions, knn_predict
from ssl_lt.evaluate.linear_probe import linear_probe
from ssl_lt.report.results import Evaluation


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    words = split_arguments(arguments)
    config = parse(EvaluateConfig(), words, read_configs(words), prog="evaluate.py")
    state = join_processes()
    run = open_saved_run(
        config.run,
        data_root=config.data_root,
        num_workers=config.num_workers,
        verb="evaluation",
    )
    data, test = run.data, run.test
    state.print(f"evaluating {run.folder.path} on {len(test):,} test images", flush=True)
    network = load_network(run)
    found = []
    if network.task is not None and isinstance(run.config, FinetuneConfig):
        found = [*judge_trained(network.task, test, data, run.config)]
    found += _representation(network.backbone, data, test, config)
    if config.random_init:
        initial = _representation(_untrained(run.config, data).to(device()), data, test, config)
        found += [replace(e, name=f"random init: {e.name}") for e in initial]
    if state.is_main_process:
        record(run, [*found, *run.others(found)])
    return 0


def _untrained(config: PretrainConfig | FinetuneConfig, data: Data) -> nn.Module:
    """The backbone as it was before training, had it started from scratch."""
    if isinstance(config, FinetuneConfig):
        return build_parts(config, data).backbone
    backbone, _ = build_backbone(config.model, image_size=data.image_size, seed=config.run.seed)
    return backbone


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
