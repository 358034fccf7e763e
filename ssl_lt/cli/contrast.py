"""From a fine-tuning configuration to its views and to the contrast beside the classification."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ssl_lt.augment.classifier_view import ClassifierView
from ssl_lt.augment.views import ContrastiveView, ViewOptions, WeakView, WorkerCrop
from ssl_lt.cli.build import CROP_AND_FLIP, Data, weak_view
from ssl_lt.cli.options import FinetuneConfig
from ssl_lt.core.errors import ConfigError
from ssl_lt.finetune.contrast_task import Contrast
from ssl_lt.finetune.weak_classes import WeakClasses
from ssl_lt.losses.registry import Build
from ssl_lt.losses.supervised_contrastive import ContrastOptions
from ssl_lt.models.heads import contrast_head, prototype_head

# Up to here pictures get the CIFAR policy and Cutout, above it the ImageNet policy alone.
_LARGEST_SMALL_PICTURE = 96


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


def build_contrast(
    build: Build, config: FinetuneConfig, data: Data, *, num_features: int, counts: Tensor
) -> Contrast:
    """Loss, view and heads of a configuration whose loss has a contrast.

    Raises:
        ConfigError: the backbone is frozen, and the contrast would train nothing but its heads.
    """
    if config.freeze_backbone:
        raise ConfigError(f"--freeze-backbone: --loss {config.loss} trains the backbone")
    options: ContrastOptions = getattr(config, "options")  # noqa: B009  (of the chosen loss)
    view: ViewOptions = getattr(config, "view")  # noqa: B009  (added where there is a contrast)
    loss = build(counts, options)
    widths: dict[str, Any] = {"hidden_dim": options.hidden_dim, "output_dim": options.output_dim}
    prototypes: nn.Module | None = None
    head = contrast_head(num_features, **widths)
    if loss.uses_prototypes:
        prototypes = prototype_head(num_features, **widths)
    weak_classes = WeakClasses(
        data.num_classes, factor=options.compression, start=options.compression_start
    )
    return Contrast(
        loss,
        ContrastiveView(view, size=data.image_size, mean=data.source.mean, std=data.source.std),
        head,
        prototypes,
        weight=options.contrast_weight,
        classification_weight=options.classification_weight,
        weak_classes=None if options.compression == 1 else weak_classes,
    )
