"""Validation images taken from the training images."""

from __future__ import annotations

from dataclasses import replace

import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import Data
from ssl_lt.data.splits.hold_out import held_out_rows, missing_classes


def with_validation(data: Data, share: float) -> Data:
    """The data with some training images as its validation images (`--val-fraction`).

    Which images is a function of the split: a run that goes on, or is evaluated, finds the same.
    Images that belong together stay together.

    Args:
        data: with labels.
        share: of the images of each class, rounded down but at least one; a class of one image
            keeps it. 0: the data as it is.

    Raises:
        ConfigError: there are validation images already, or no class has two images, or groups.
    """
    if not share:
        return data
    if data.source.validation is not None:
        own = f"--val-data {data.options.val_data}"
        if data.options.val_data is None:
            own = f"{data.source.name} has validation images, which"
        raise ConfigError(f"--val-fraction: {own} takes its place; leave one of them out")
    labels, groups = data.train.labels, data.train.group_ids
    index, seed = torch.arange(len(labels)), data.split.recipe.seed
    held = held_out_rows(labels, index, share=share, seed=seed, group_ids=groups)
    source, by = data.source, data.source.grouped_by
    if not bool(held.any()):
        several = "two training images" if groups is None else f"two groups ({by}) to part"
        raise ConfigError(f"--val-fraction: no class has {several}")
    notes = missing_classes(labels, held, source.class_names, grouped_by=by, part="validation")
    source = replace(source, notes=(*source.notes, *notes))
    rows, kept = (torch.nonzero(part).flatten().numpy() for part in (held, ~held))
    counts = torch.bincount(labels[~held], minlength=data.num_classes)
    indices, held_out = (data.split.indices[part] for part in (kept, rows))
    split = replace(data.split, indices=indices, counts_per_class=tuple(counts.tolist()))
    train = data.train.take(kept)
    return replace(data, source=source, split=split, train=train, held_out=held_out)
