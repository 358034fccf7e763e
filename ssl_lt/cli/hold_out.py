"""Images to choose by, which the test split must not be: of their own, or kept out of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ssl_lt.cli.build import Data
from ssl_lt.cli.measure import classifier_predictions
from ssl_lt.core.errors import ConfigError
from ssl_lt.data.tables import EncodedTable, PixelTable
from ssl_lt.engine.precision import Precision
from ssl_lt.evaluate.linear_probe import LinearProbeOptions, held_out_rows


def training_and_validation(
    data: Data, share: float
) -> tuple[Data, PixelTable | EncodedTable | None]:
    """What to train on, and what to choose by; None: nothing is there for that.

    Args:
        data: with labels.
        share: `--hold-out`; 0: the validation images, where there are any.

    Raises:
        ConfigError: there are, and a share is to be held out too; or as `hold_out` says.
    """
    if not share:
        return data, data.validation()
    if data.source.validation() is not None:
        own = f"--val-data {data.options.val_data}"
        if data.options.val_data is None:
            own = f"{data.source.name} has validation images, which"
        raise ConfigError(f"--hold-out: {own} takes its place; leave one of them out")
    return hold_out(data, share)


def hold_out(data: Data, share: float) -> tuple[Data, PixelTable | EncodedTable]:
    """What is left to train on, and what is held out.

    Which images is a function of the split: a run that goes on, or is judged, finds the same.

    Args:
        data: with labels.
        share: of the images of each class, rounded down but at least one; a class of one image
            keeps it.

    Raises:
        ConfigError: no class has two images.
    """
    options = LinearProbeOptions(held_out=share, seed=data.split.recipe.seed)
    labels = data.train.labels
    held = held_out_rows(labels, torch.arange(len(labels)), options=options)
    if not bool(held.any()):
        raise ConfigError("--hold-out: no class has two training images")
    rows, kept = (torch.nonzero(part).flatten().numpy() for part in (held, ~held))
    counts = torch.bincount(labels[~held], minlength=data.num_classes)
    split = replace(
        data.split,
        indices=data.split.indices[kept],
        counts_per_class=tuple(int(n) for n in counts),
    )
    return replace(data, split=split, train=data.train.take(kept)), data.train.take(rows)


def accuracy_on(
    table: PixelTable | EncodedTable, data: Data, *, precision: Precision
) -> Callable[[nn.Module], Tensor]:
    """Network that ends in logits -> (C,) accuracy on a table, 0 for classes it has no image of."""

    def accuracy_per_class(network: nn.Module) -> Tensor:
        predictions, labels = classifier_predictions(network, table, data, precision=precision)
        seen = np.bincount(labels, minlength=data.num_classes)
        right = np.bincount(labels[predictions == labels], minlength=data.num_classes)
        return torch.from_numpy(right / np.maximum(seen, 1)).float()

    return accuracy_per_class
