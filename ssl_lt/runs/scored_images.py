"""The training images of a run, or those that weights are shown, with scores of rarity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import Data, open_data
from ssl_lt.data.splits.split import read_split
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.tail.findings import Floats
from ssl_lt.evaluate.tail.scores import (
    NUM_LOGITS,
    cluster_score,
    density_score,
    disagreement_score,
    neighbour_cosines,
    tailness_score,
)
from ssl_lt.models.pruned_twin import prunable_weights, pruned_copy
from ssl_lt.runs.config.tail import TailConfig
from ssl_lt.runs.life.init_from import InitSource
from ssl_lt.runs.life.place import Moved
from ssl_lt.runs.life.saved_run import (
    load_network,
    load_weights_alone,
    open_run_data,
    run_config_of,
)
from ssl_lt.runs.life.scores import last_scores

_KEPT = {"memorisation": "--plugins bcl", "disagreement": "--method sdclr"}


@dataclass(frozen=True, eq=False)
class Opened:
    """What is scored, and by what.

    Attributes:
        name: of the run or of the weights.
        facts: of weights without a run, see `InitSource`.
        data: whose training images they are.
        backbone: (B, 3, S, S) -> (B, D).
        kept: name -> (N,) score that the run has kept; NaN unknown.
    """

    name: str
    facts: Mapping[str, str]
    data: Data
    backbone: nn.Module
    kept: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Scored:
    """What was found of the images.

    Attributes:
        features: of all images, by the backbone.
        scores: name -> (N,), high for what looks rare, NaN unknown; the chosen one, and where
            classes are known all that need no other features.
    """

    features: Features
    scores: Mapping[str, Floats]


def open_run_images(run: RunFolder, config: TailConfig) -> Opened:
    """A run with its network and what it has kept.

    Raises:
        UserError: as `open_run_data`, `load_network` and `last_scores` say.
    """
    workers = config.data.num_workers
    stored = run_config_of(run, moved=Moved.said(config.data), num_workers=workers)
    data = open_run_data(run, stored)
    kept = last_scores(run, num_samples=len(read_split(run.split).indices))
    backbone = load_network(run, stored, data).backbone
    found = {name: kept[name] for name in _KEPT if name in kept}
    return Opened(run.path.name, {}, data, backbone, found)


def open_weights_images(source: InitSource, config: TailConfig) -> Opened:
    """The data that was asked for, and a network with these weights.

    Raises:
        ConfigError: no weights at all.
        UserError: as `open_data` and `load_weights_alone` say.
    """
    if source.weights is None:
        raise ConfigError("--init-from: scratch has no features to go by")
    data = open_data(config.data)
    backbone, facts = load_weights_alone(source, config.model, data)
    return Opened(source.name, facts, data, backbone, {})


def check_score(opened: Opened, config: TailConfig) -> None:
    """Raises ConfigError where the chosen score is neither kept nor can be computed."""
    chosen = config.score
    if chosen == "memorisation" and chosen not in opened.kept:
        raise ConfigError(
            f"--score: {opened.name} has kept no memorisation; a run with {_KEPT[chosen]} does"
        )
    can_be_found = chosen in opened.kept or prunable_weights(opened.backbone)
    if chosen == "disagreement" and not can_be_found:
        raise ConfigError(f"--score: {opened.name} has no weights that could be pruned")


def score_images(opened: Opened, config: TailConfig) -> Scored:
    """Features of all images, and their scores.

    Raises:
        DataError: fewer than two images, or features that are zero or not finite.
    """
    embed = partial(
        embed_dataset,
        table=opened.data.train,
        data=opened.data,
        precision="auto",
        batch_size=config.batch_size,
    )
    features = embed(opened.backbone)
    scores = {name: score.astype(np.float64) for name, score in opened.kept.items()}
    if config.score == "disagreement" and config.score not in scores:
        pruned = pruned_copy(opened.backbone, prune_ratio=config.prune_ratio)
        scores[config.score] = disagreement_score(features, embed(pruned))
    wanted = {config.score, *(("density", "cluster", "tailness") if opened.data.groups else ())}
    cosines = neighbour_cosines(features, k=max(config.knn_k, NUM_LOGITS))
    if "density" in wanted:
        scores["density"] = density_score(cosines[:, : config.knn_k])
    if "tailness" in wanted:
        scores["tailness"] = tailness_score(features, cosines)
    if "cluster" in wanted:
        scores["cluster"] = cluster_score(features, seed=0)
    return Scored(features, scores)
