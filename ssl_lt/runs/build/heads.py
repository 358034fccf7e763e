"""What the classifier starts at: a probe on the backbone's features, their class means, or chance.

A random head distorts good features in its first steps; one that is fitted to them first does not
(LP-FT, arXiv:2202.10054).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.kmeans import cluster_means
from ssl_lt.data.dataset import Data
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.features.running_statistics import measure_statistics, mode_losses
from ssl_lt.evaluate.probes.linear_probe import FittedProbe, fit_probe
from ssl_lt.finetune.registry import prior_strength
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.models.classifiers import CosineClassifier
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, HeadInit

# Not as far down as a probe's own: large weights would pull the backbone apart in its first steps.
_L2_GRID = (1.0, 1e-1, 1e-2, 1e-3)


def head_init(config: AnyFinetuneConfig, *, from_weights: bool) -> HeadInit:
    """What `--head-init` stands for.

    Args:
        config: the flags.
        from_weights: the backbone starts from some; without, its features say little.

    Raises:
        ConfigError: a head that such a classifier cannot start at.
    """
    asked, cosine = config.head_init, config.classifier == "cosine"
    fitting: HeadInit = "class-means" if cosine else "probe"
    single = config.ensemble.experts == "none" and config.entry.initial_bias is None
    if asked == "auto":
        return fitting if from_weights and single and not config.init_classifier else "random"
    if asked != "random":
        if not single:
            raise ConfigError(f"--head-init {asked}: experts and sigmoid losses start at random")
        if config.init_classifier:
            raise ConfigError(f"--head-init {asked}: --init-classifier says what it starts at")
        if asked != fitting:
            raise ConfigError(
                f"--head-init {asked}: a {config.classifier} classifier starts at {fitting}"
            )
    return asked


def start_head(task: ClassifierTask, config: AnyFinetuneConfig, data: Data, kind: HeadInit) -> str:
    """Sets the classifier's weights in place; the backbone has its own already.

    Running statistics that have not settled are measured anew before, where training goes by those
    of the batch.

    Returns:
        What was done, for the user; "" where it stays as it was drawn.

    Raises:
        ConfigError: class means with a class that has no training images.
    """
    if kind == "random":
        return ""
    note, precision = _fit_head(task, config, data, kind), config.fit.mixed_precision
    if config.tune != "all" or config.batch_norm != "update":
        return note
    losses = mode_losses(task.backbone, task.classifier, data, precision=precision)
    if losses.settled:
        return note
    seen = measure_statistics(task.backbone, data, precision=precision)
    return (
        "batch norms: running statistics have not settled (the loss of a head fitted to them is "
        f"{losses.running:.3g}, and {losses.batch:.3g} with those of a batch): measured anew on "
        f"{seen:,} training images\n{_fit_head(task, config, data, kind)}"
    )


def _fit_head(task: ClassifierTask, config: AnyFinetuneConfig, data: Data, kind: HeadInit) -> str:
    """`start_head` with the statistics as they are."""
    precision = config.fit.mixed_precision
    train = embed_dataset(task.backbone, data.train, data, precision=precision)
    if kind == "class-means":
        assert isinstance(task.classifier, CosineClassifier)
        task.classifier.start_at(_class_means(train, data))
        return "head: starts at the class means of the training features"
    own = data.validation
    judges = None if own is None else embed_dataset(task.backbone, own, data, precision=precision)
    tau = prior_strength(config.loss, config.options)
    grid: Sequence[float] = _L2_GRID
    if judges is None and int(train.labels.bincount().max()) < 2:
        grid = _L2_GRID[-1:]  # no class has two images, so there is nothing to choose it on
    probe = fit_probe(train, num_classes=data.num_classes, validation=judges, l2_grid=grid, tau=tau)
    assert isinstance(task.classifier, nn.Linear)
    _set_linear(task.classifier, probe)
    kind_of = f"logit-adjusted (tau {tau:g})" if tau else "plain"
    return f"head: starts at a {kind_of} linear probe, L2 strength {probe.l2:g}"


@torch.no_grad()
def _set_linear(layer: nn.Linear, probe: FittedProbe) -> None:
    """Classes without training images get no weight and the lowest bias."""
    layer.weight.zero_()
    layer.bias.fill_(float(probe.bias.min()))
    layer.weight[probe.classes] = probe.weight.to(layer.weight)
    layer.bias[probe.classes] = probe.bias.to(layer.bias)


def _class_means(train: Features, data: Data) -> Tensor:
    """(C, D) means of the training features."""
    counts = train.labels.bincount(minlength=data.num_classes)
    if (empty := (counts == 0).nonzero()).numel():
        name = data.source.class_names[int(empty[0])]
        raise ConfigError(f"--head-init class-means: class {name} has no training images")
    return cluster_means(train.features, train.labels, data.num_classes)
