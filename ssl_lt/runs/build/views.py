"""The views that a run trains on, from its configuration and its data."""

from __future__ import annotations

from dataclasses import replace

from ssl_lt.augment.classifier_view import ClassifierView
from ssl_lt.augment.views import CROP_AND_FLIP, ContrastiveView, ViewOptions, WeakView, WorkerCrop
from ssl_lt.core.types import LARGEST_SMALL, ImageSpec
from ssl_lt.data.dataset import Data
from ssl_lt.runs.config.finetune import AnyFinetuneConfig


def view_options(view: ViewOptions, data: Data) -> ViewOptions:
    """The options with what is usual for the data where nothing was asked for."""
    if view.flip_probability is not None:
        return view
    return replace(view, flip_probability=data.source.flip_probability)


def classified_view(
    config: AnyFinetuneConfig, data: Data
) -> ClassifierView | WeakView | ContrastiveView:
    """The view that `--augment` names.

    weak: padded crop and flip for images of one small size, else random resized crop and flip.
    """
    flips = view_options(config.view, data).flips
    if config.augment == "autoaugment":
        side = data.source.image_size or data.image_size
        small = side <= LARGEST_SMALL
        return ClassifierView(
            data.spec,
            policy="cifar10" if small else "imagenet",
            cutout=min(side, data.image_size) // 2 if small and config.cutout else 0,
            flip_probability=flips,
        )
    if data.source.image_size is not None:
        return WeakView(data.spec, flip_probability=flips)
    return ContrastiveView(replace(_cropped(data.spec), flip_probability=flips), data.spec)


def worker_crop(config: AnyFinetuneConfig, spec: ImageSpec) -> WorkerCrop:
    """What loader workers cut where pictures do not fit into memory: view 0 and those beside it."""
    others = (config.view,) * (config.entry.views - 1)
    return WorkerCrop((_cropped(spec), *others), seed=config.run.seed)


def _cropped(spec: ImageSpec) -> ViewOptions:
    """The classified view of images too large for a padded crop."""
    return replace(CROP_AND_FLIP, interpolation=spec.interpolation)
