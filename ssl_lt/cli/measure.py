"""Accuracies of a network on the balanced test split, during training and after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_lt.augment.geometric import to_unit
from ssl_lt.augment.views import PlainView
from ssl_lt.cli.build import Data, autocast_dtype
from ssl_lt.core.distributed import rank, world_size
from ssl_lt.data.tables import EncodedTable, PixelTable
from ssl_lt.engine.precision import Precision
from ssl_lt.evaluate.accuracy import accuracy_from_confusion, confusion_matrix
from ssl_lt.evaluate.answers import pack_answers
from ssl_lt.evaluate.calibration import calibration
from ssl_lt.evaluate.feature_file import store_features
from ssl_lt.evaluate.features import (
    Features,
    extract_features,
    feature_batches,
    gather_batches,
    gather_features,
)
from ssl_lt.evaluate.intervals import bootstrap
from ssl_lt.report.results import Evaluation

_BATCH_SIZE = 512


def features_of(
    network: nn.Module,
    table: PixelTable | EncodedTable,
    data: Data,
    *,
    precision: Precision,
    batch_size: int = _BATCH_SIZE,
    folder: Path | None = None,
) -> Features:
    """What a frozen network says of every image of a table; the ranks share the work.

    Args:
        network: (B, 3, S, S) -> (B, D).
        table: images.
        data: says how they are normalised.
        precision: of the forward pass.
        batch_size: images a forward pass.
        folder: where features that do not fit into memory are kept; None: in memory.
    """
    from ssl_lt.data.ordered import ordered_batches

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
    if folder is None:
        share = extract_features(network, own, prepare, autocast_dtype=dtype)
        return gather_features(share, device=device)
    shares = feature_batches(network, own, prepare, autocast_dtype=dtype)
    num_rounds = math.ceil(math.ceil(len(table) / size) / world_size())
    gathered = gather_batches(shares, num_rounds=num_rounds, device=device)
    return store_features(gathered, folder)


def judge(
    name: str,
    predictions: NDArray[np.int64],
    labels: NDArray[np.int64],
    data: Data,
    *,
    note: str = "",
    confidence: NDArray[np.float32] | None = None,
) -> Evaluation:
    """Predictions on the test split as a named evaluation.

    Args:
        name: of the classifier.
        predictions: (N,) classes, in the order of the test split.
        labels: (N,) true classes.
        data: with the groups and the test split.
        note: settings worth a line.
        confidence: (N,) probability of the predicted class; None of a classifier that has none.
    """
    confusion = confusion_matrix(predictions, labels, num_classes=data.num_classes)
    hits, num_test = confusion.diagonal(), confusion.sum(axis=1)
    right = predictions == labels
    rows: Sequence[Sequence[int]] = confusion.tolist()
    return Evaluation(
        name=name,
        accuracy=accuracy_from_confusion(confusion, groups=data.groups),
        note=note,
        confusion=tuple(tuple(row) for row in rows),
        intervals=bootstrap(hits, num_test, groups=data.groups),
        calibration=None
        if confidence is None
        else calibration(confidence, right, labels, groups=data.groups),
        answers=pack_answers(right, labels, test_sha256=data.test_sha256),
    )


def classifier_predictions(
    network: nn.Module, table: PixelTable | EncodedTable, data: Data, *, precision: Precision
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and true classes of every image, by a network that ends in logits."""
    found = features_of(network, table, data, precision=precision)
    return torch.argmax(found.features, dim=1).numpy(), found.labels.numpy()
