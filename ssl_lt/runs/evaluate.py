"""`evaluate.py`: judge a run on the balanced test split, and make its report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import Data, check_labels, open_data
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.engine.checkpoints.run_folder import RunFolder, check_is_new
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.geometry.representation import Representation, measure_representation
from ssl_lt.evaluate.geometry.view_pair import view_pair
from ssl_lt.evaluate.pictures import write_pictures
from ssl_lt.evaluate.protocols import (
    EvalFeatures,
    Skip,
    class_mean_evaluation,
    few_shots,
    knn_evaluations,
    needs_whole,
    probe_evaluations,
)
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.models.backbones import build_backbone
from ssl_lt.report.tables.summary import leading_table, summary_tables
from ssl_lt.runs.build.finetuning import build_parts
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.stored import AnyConfig, effective_mapping
from ssl_lt.runs.finetune import evaluate_trained
from ssl_lt.runs.inference.facts import ensemble_note, facts_of
from ssl_lt.runs.life.find import new_run_path
from ssl_lt.runs.life.init_from import InitSource, find_source
from ssl_lt.runs.life.place import Moved
from ssl_lt.runs.life.processes import join_processes
from ssl_lt.runs.life.result import weights_of
from ssl_lt.runs.life.same_run import check_processes
from ssl_lt.runs.life.saved_run import (
    SavedNetwork,
    SavedRun,
    device,
    load_network,
    load_weights_alone,
    open_saved_run,
    record,
    test_split,
)
from ssl_lt.runs.life.start import removed_if_nothing_came, write_run_folder


def evaluate(config: EvaluateConfig, *, source: InitSource | None = None) -> RunFolder:
    """Measures a run, or weights without a run, on a test split; writes results and a page.

    Args:
        config: what is judged, and how.
        source: the weights to judge without a run; None: what the configuration names.

    Returns:
        The run, or the new folder that the results of the weights are in.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    check_processes(config)
    if config.init_from is None:
        run, network = _saved(config)
        _judge(run, network, config)
    else:
        source = source or find_source(config.init_from, backbone=config.model.backbone)
        run, network = _weights(config, source)
        with removed_if_nothing_came(run.folder):
            _judge(run, network, config)
    return run.folder


def _saved(config: EvaluateConfig) -> tuple[SavedRun, SavedNetwork]:
    """A run and what it has learned."""
    run = open_saved_run(
        config.run,
        moved=Moved.said(config.data),
        num_workers=config.data.num_workers,
        verb="evaluation",
    )
    few_shots(config.protocols, run.data)  # what cannot be drawn is said before the work
    return run, load_network(run.folder, run.config, run.data)


def _weights(config: EvaluateConfig, source: InitSource) -> tuple[SavedRun, SavedNetwork]:
    """Weights without a run, in a new folder for the results."""
    if source.weights is None:
        raise ConfigError("--init-from: scratch has nothing to judge")
    path = config.run_dir or new_run_path("evaluate", source.stem, config.data.data)
    check_is_new(path)
    state = join_processes()
    data = open_data(config.data)
    check_labels(data, "evaluation")
    test = test_split(data, "evaluation")
    few_shots(config.protocols, data)
    backbone, facts = load_weights_alone(source, config.model, data)
    folder = write_run_folder(path, config, data, state, verb="evaluate", started_from=facts)
    return SavedRun(folder, config, data, test, None), SavedNetwork(backbone, None)


def _judge(run: SavedRun, network: SavedNetwork, config: EvaluateConfig) -> None:
    """Measures the network, and records that."""
    state, data, test = join_processes(), run.data, run.test
    if network.task is None and config.ensemble != "none":
        raise ConfigError(f"--ensemble: {run.folder.path} has no classifier")
    state.print(f"evaluating {run.folder.path} on {len(test):,} test images", flush=True)
    evaluations, left_out = list[Evaluation](), dict[str, str]()

    def skip(name: str, reason: str) -> None:
        left_out[name] = reason
        state.print(f"note: without {name}: {reason}", flush=True)

    if network.task is not None and isinstance(run.config, FinetuneConfig):
        if note := ensemble_note(config.ensemble, facts_of(run.config, data)):
            state.print(note, flush=True)
        weights = weights_of(run.folder, effective_mapping(run.config))
        evaluations = [
            *evaluate_trained(
                network.task, test, data, run.config, weights=weights, ensemble=config.ensemble
            )
        ]
    features = _features(network.backbone, data, test, config)
    evaluations += _representation(network.backbone, features, data, config, skip=skip)
    measured = [_measured("backbone", network.backbone, features.queries, data, config)]
    if config.random_init:
        untrained = _drawn(run.config, data).to(device())
        seen = _features(untrained, data, test, config)
        # What is left out of the one is left out of the other, too.
        initial = _representation(untrained, seen, data, config, skip=lambda *_: None)
        evaluations += [replace(e, name=f"random init: {e.name}") for e in initial]
        initially = _measured("random init: backbone", untrained, seen.queries, data, config)
        # Before training most features look alike: no news.
        measured.append(replace(initially, warnings=()))
    if state.is_main_process:
        bank, queries = features.bank, features.queries
        write_pictures(run.folder.report, data, bank, queries, map_images=config.map_images)
        shown = summary_tables if config.verbose else leading_table
        record(
            run,
            [*evaluations, *run.others(evaluations)],
            measured,
            left_out=left_out,
            shown=shown,
        )


def _drawn(config: AnyConfig, data: Data) -> nn.Module:
    """The backbone as it is before training, from scratch."""
    if isinstance(config, FinetuneConfig):
        return build_parts(config, data).backbone
    seed = 0 if isinstance(config, EvaluateConfig) else config.run.seed
    return build_backbone(config.model, image_size=data.image_size, seed=seed)[0]


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
    *,
    skip: Skip,
) -> list[Evaluation]:
    """KNN against the long-tailed training set, linear probes on it and on the whole one."""
    options = config.protocols
    evaluations = [
        *knn_evaluations(seen, data, options, skip=skip),
        class_mean_evaluation(seen, data),
    ]
    whole = seen.bank
    if needs_whole(options) and len(data.readable) != len(data.train):
        table, size = data.decoded(data.readable), config.batch_size
        whole = embed_dataset(backbone, table, data, precision="auto", batch_size=size)
    return [*evaluations, *probe_evaluations(seen, whole, data, options, skip=skip)]
