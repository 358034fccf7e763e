"""Running statistics of batch norms: whether they have settled, and how to measure them anew.

A network that has seen few batches normalises in evaluation mode by statistics that are far from
those of its activations. What is fitted to its features is then wrong by orders of magnitude as
soon as training normalises by the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_lt.augment.views import PlainView
from ssl_lt.core.precision import Precision, autocast_dtype
from ssl_lt.data.dataset import Data
from ssl_lt.evaluate.features.embed import evaluation_mode
from ssl_lt.models.batch_norm import batch_norms

_BATCH_SIZE = 256
_FEW, _MANY = 4 * _BATCH_SIZE, 16 * _BATCH_SIZE


@dataclass(frozen=True)
class ModeLosses:
    """Mean cross-entropy of the same images, normalised by running and by batch statistics."""

    running: float
    batch: float
    num_classes: int

    @property
    def settled(self) -> bool:
        """The step to batch statistics costs no more than a head that guesses would."""
        return self.batch <= self.running + math.log(self.num_classes)


def mode_losses(
    backbone: nn.Module, classifier: nn.Module, data: Data, *, precision: Precision
) -> ModeLosses:
    """What a classifier is worth in both modes, on a few batches of training images.

    Every process computes the same; nothing of the network changes.

    Args:
        backbone: (B, 3, S, S) -> (B, D).
        classifier: (B, D) -> (B, C).
        data: with labels.
        precision: of the forward pass.
    """
    sums, seen = torch.zeros(2, dtype=torch.float64), 0
    with evaluation_mode(backbone), torch.inference_mode():
        for images, labels in _batches(backbone, data, precision=precision, most=_FEW):
            running = classifier(backbone(images))
            with _by_batch(backbone):
                batch = classifier(backbone(images))
            both = [F.cross_entropy(x.float(), labels, reduction="sum") for x in (running, batch)]
            sums += torch.stack(both).double().cpu()
            seen += len(labels)
    running_loss, batch_loss = (sums / seen).tolist()
    return ModeLosses(running_loss, batch_loss, data.num_classes)


def measure_statistics(backbone: nn.Module, data: Data, *, precision: Precision) -> int:
    """Sets running statistics to means over batches of training images (arXiv:2105.07576).

    Args:
        backbone: changed in place.
        data: whose training images it sees, without augmentation.
        precision: of the forward pass.

    Returns:
        The number of images.
    """
    layers = _batch_norms(backbone)
    momenta = [layer.momentum for layer in layers]
    seen = 0
    with evaluation_mode(backbone), torch.no_grad():
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's word for a mean over all batches
            layer.train()
        for images, labels in _batches(backbone, data, precision=precision, most=_MANY):
            backbone(images)
            seen += len(labels)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return seen


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [layer for _, layer in batch_norms(network) if layer.track_running_stats]


@contextmanager
def _by_batch(network: nn.Module) -> Iterator[None]:
    """Batch norms go by the batch and keep their running statistics."""
    layers = _batch_norms(network)
    for layer in layers:
        layer.train()
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()
            layer.track_running_stats = True


def _batches(
    network: nn.Module, data: Data, *, precision: Precision, most: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches of mixed training images (B, 3, S, S), normalised, and their labels."""
    from ssl_lt.data.loading.ordered import ordered_batches

    device = next(network.parameters()).device
    dtype = autocast_dtype(precision, device)
    num = min(len(data.train), most)
    size = num // max(1, num // _BATCH_SIZE)
    rows = np.random.default_rng(0).permutation(len(data.train))[: num - num % size]
    batches = ordered_batches(
        data.train.take(rows),
        batch_size=size,
        spec=data.spec,
        device=device,
        workers=data.options.workers,
    )
    plain = PlainView(data.spec).to(device)
    for batch in batches:
        images = plain.to_network(batch.images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            yield images, batch.labels
