"""Accuracies of a network on the balanced test split, during training and after it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_lt.augment.geometric import to_unit
from ssl_lt.augment.views import PlainView
from ssl_lt.core.distributed import rank, world_size
from ssl_lt.core.precision import Precision, autocast_dtype
from ssl_lt.data.dataset import Data
from ssl_lt.data.tables.table import EncodedTable, PixelTable
from ssl_lt.evaluate.features.extract import Features, extract_features, gather_features

_BATCH_SIZE = 512


def features_of(
    network: nn.Module,
    table: PixelTable | EncodedTable,
    data: Data,
    *,
    precision: Precision,
    batch_size: int = _BATCH_SIZE,
) -> Features:
    """What a frozen network says of every image of a table; the ranks share the work.

    Args:
        network: (B, 3, S, S) -> (B, D).
        table: images.
        data: says how they are normalised.
        precision: of the forward pass.
        batch_size: images a forward pass.
    """
    from ssl_lt.data.loading.ordered import ordered_batches

    device = next(network.parameters()).device
    plain = PlainView(mean=data.source.mean, std=data.source.std).to(device)
    size = max(1, min(batch_size, len(table) // world_size()))
    batches = ordered_batches(
        table,
        batch_size=size,
        image_size=data.image_size,
        device=device,
        workers=data.options.workers,
    )

    def prepare(images: Tensor) -> Tensor:
        return plain.normalise(to_unit(images))

    own, dtype = islice(batches, rank(), None, world_size()), autocast_dtype(precision, device)
    share = extract_features(network, own, prepare, autocast_dtype=dtype)
    return gather_features(share, device=device)


def classifier_predictions(
    network: nn.Module, table: PixelTable | EncodedTable, data: Data, *, precision: Precision
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and true classes of every image, by a network that ends in logits."""
    found = features_of(network, table, data, precision=precision)
    return torch.argmax(found.features, dim=1).numpy(), found.labels.numpy()


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
