"""`evaluate.py`: judge a run on the balanced test split, and make its report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ssl_lt.data.dataset import Data
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.geometry.representation import Representation, measure_representation
from ssl_lt.evaluate.geometry.view_pair import view_pair
from ssl_lt.evaluate.pictures import write_pictures
from ssl_lt.evaluate.protocols import (
    EvalFeatures,
    few_shots,
    knn_evaluations,
    needs_whole,
    probe_evaluations,
)
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.models.backbones import build_backbone
from ssl_lt.runs.build.finetuning import build_parts
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.stored import TrainConfig
from ssl_lt.runs.finetune import evaluate_trained
from ssl_lt.runs.life.processes import join_processes
from ssl_lt.runs.life.same_run import check_processes
from ssl_lt.runs.life.saved_run import device, load_network, open_saved_run, record


def evaluate(config: EvaluateConfig) -> None:
    """Measures a run on the test split, adds that to its results and writes its page.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    state = join_processes()
    check_processes(config)
    run = open_saved_run(
        config.run,
        data_root=config.data_root,
        num_workers=config.num_workers,
        verb="evaluation",
    )
    data, test = run.data, run.test
    few_shots(config.protocols, data)  # what cannot be drawn is said before the work
    state.print(f"evaluating {run.folder.path} on {len(test):,} test images", flush=True)
    network = load_network(run.folder, run.config, data)
    evaluations = []
    if network.task is not None and isinstance(run.config, FinetuneConfig):
        evaluations = [*evaluate_trained(network.task, test, data, run.config)]
    features = _features(network.backbone, data, test, config)
    evaluations += _representation(network.backbone, features, data, config)
    measured = [_measured("backbone", network.backbone, features.queries, data, config)]
    if config.random_init:
        untrained = _untrained(run.config, data).to(device())
        seen = _features(untrained, data, test, config)
        initial = _representation(untrained, seen, data, config)
        evaluations += [replace(e, name=f"random init: {e.name}") for e in initial]
        initially = _measured("random init: backbone", untrained, seen.queries, data, config)
        # Before training most features look alike: no news.
        measured.append(replace(initially, warnings=()))
    if state.is_main_process:
        bank, queries = features.bank, features.queries
        write_pictures(run.folder.report, data, bank, queries, map_images=config.map_images)
        record(run, [*evaluations, *run.others(evaluations)], measured)


def _untrained(config: TrainConfig, data: Data) -> nn.Module:
    """The backbone as it was before training, had it started from scratch."""
    if isinstance(config, FinetuneConfig):
        return build_parts(config, data).backbone
    backbone, _ = build_backbone(config.model, image_size=data.image_size, seed=config.run.seed)
    return backbone


def _features(
    backbone: nn.Module,
    data: Data,
    test: ImageTable,
    config: EvaluateConfig,
) -> EvalFeatures:
    """Of the long-tailed training set, which is kNN's bank, of the test and validation images."""
    backbone = backbone.to(memory_format=torch.channels_last)
    get = partial(
        embed_dataset, backbone, precision="auto", batch_size=config.batch_size, data=data
    )
    bank, own = get(table=data.train), data.validation
    return EvalFeatures(bank, get(table=test), None if own is None else get(table=own))


def _measured(
    name: str, backbone: nn.Module, queries: Features, data: Data, config: EvaluateConfig
) -> Representation:
    """Alignment of training images, everything else of the test split."""
    return measure_representation(
        name,
        queries.features.numpy(),
        queries.labels.numpy(),
        views=view_pair(backbone, data, batch_size=config.batch_size),
        groups=data.groups,
    )


def _representation(
    backbone: nn.Module,
    seen: EvalFeatures,
    data: Data,
    config: EvaluateConfig,
) -> list[Evaluation]:
    """KNN against the long-tailed training set, linear probes on it and on the whole one."""
    options = config.protocols
    evaluations = knn_evaluations(seen, data, options)
    whole = seen.bank
    if needs_whole(options) and len(data.readable) != len(data.train):
        table, size = data.decoded(data.readable), config.batch_size
        whole = embed_dataset(backbone, table, data, precision="auto", batch_size=size)
    return [*evaluations, *probe_evaluations(seen, whole, data, options)]
