"""From a fine-tuning configuration to its networks, views, loss and task."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssl_lt.augment.classifier_view import ClassifierView
from ssl_lt.augment.views import ContrastiveView, ViewOptions, WeakView, WorkerCrop
from ssl_lt.cli.build import CROP_AND_FLIP, Data, build_backbone, weak_view
from ssl_lt.cli.measure import features_of
from ssl_lt.cli.options import FinetuneConfig
from ssl_lt.core.errors import ConfigError
from ssl_lt.finetune.contrast_task import Contrast, ContrastTask
from ssl_lt.finetune.parts import Parts
from ssl_lt.finetune.registry import STEPS
from ssl_lt.finetune.task import ClassifierTask
from ssl_lt.finetune.weak_classes import WeakClasses
from ssl_lt.losses.registry import LOSSES, Build
from ssl_lt.losses.supervised_contrastive import ContrastOptions
from ssl_lt.models.classifiers import CosineClassifier, linear_classifier
from ssl_lt.models.heads import contrast_head, prototype_head

# Up to here pictures get the CIFAR policy and Cutout, above it the ImageNet policy alone.
_LARGEST_SMALL_PICTURE = 96


def build_task(config: FinetuneConfig, data: Data) -> ClassifierTask:
    """Networks, loss and views; initial weights follow from the seed."""
    parts = build_parts(config, data)
    options = getattr(config, "options")  # noqa: B009  (of the chosen loss)
    if config.loss in STEPS:
        return STEPS[config.loss].build(parts, options)
    entry = LOSSES[config.loss]
    loss = entry.build(parts.counts_per_class, options)
    if entry.contrast is not None:
        if config.freeze_backbone:
            raise ConfigError(f"--freeze-backbone: --loss {config.loss} trains the backbone")
        return ContrastTask(
            parts.backbone,
            parts.classifier,
            loss,
            parts.view,
            contrast=build_contrast(entry.contrast, parts, options),
            seed=parts.seed,
        )
    return ClassifierTask(
        parts.backbone, parts.classifier, loss, parts.view, trained=parts.trained, seed=parts.seed
    )


def build_parts(config: FinetuneConfig, data: Data) -> Parts:
    """What the task is made of."""
    size, source = data.image_size, data.source
    backbone, num_features = build_backbone(config.model, image_size=size, seed=config.run.seed)
    if config.classifier == "cosine":
        classifier: nn.Module = CosineClassifier(num_features, data.num_classes)
    else:
        classifier = linear_classifier(num_features, data.num_classes)
    options: ViewOptions | None = getattr(config, "view", None)
    precision = config.fit.mixed_precision

    def train_features(network: nn.Module) -> tuple[Tensor, Tensor]:
        found = features_of(network, data.train, data, precision=precision)
        return found.features, found.labels

    return Parts(
        backbone=backbone,
        num_features=num_features,
        classifier=classifier,
        view=classified_view(config, data),
        contrastive_view=None
        if options is None
        else ContrastiveView(options, size=size, mean=source.mean, std=source.std),
        counts_per_class=torch.tensor(data.split.counts_per_class),
        trained="classifier" if config.freeze_backbone else "all",
        train_features=train_features,
        seed=config.run.seed,
    )


def build_contrast(build: Build, parts: Parts, options: ContrastOptions) -> Contrast:
    """Loss, view and heads of a loss with a contrast."""
    assert parts.contrastive_view is not None
    loss = build(parts.counts_per_class, options)
    widths: dict[str, Any] = {"hidden_dim": options.hidden_dim, "output_dim": options.output_dim}
    head = contrast_head(parts.num_features, **widths)
    prototypes = prototype_head(parts.num_features, **widths) if loss.uses_prototypes else None
    weak_classes = WeakClasses(
        len(parts.counts_per_class), factor=options.compression, start=options.compression_start
    )
    return Contrast(
        loss,
        parts.contrastive_view,
        head,
        prototypes,
        weight=options.contrast_weight,
        classification_weight=options.classification_weight,
        weak_classes=None if options.compression == 1 else weak_classes,
    )


def classified_view(
    config: FinetuneConfig, data: Data
) -> ClassifierView | WeakView | ContrastiveView:
    """The view that `--augment` names."""
    if config.augment == "weak":
        return weak_view(data)
    small = data.image_size <= _LARGEST_SMALL_PICTURE
    return ClassifierView(
        size=data.image_size,
        mean=data.source.mean,
        std=data.source.std,
        policy="cifar10" if small else "imagenet",
        cutout=data.image_size // 2 if small else 0,
    )


def worker_crop(config: FinetuneConfig) -> WorkerCrop:
    """What loader workers cut where pictures do not fit into memory: one view, or all three."""
    view = getattr(config, "view", None)
    if view is None:
        return WorkerCrop(CROP_AND_FLIP, seed=config.run.seed, num_views=1)
    return WorkerCrop(view, seed=config.run.seed, num_views=3)
