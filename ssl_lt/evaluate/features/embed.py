"""Every image of a data set through a frozen network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_lt.augment.views import PlainView
from ssl_lt.core.errors import DataError
from ssl_lt.core.precision import Precision, autocast_dtype
from ssl_lt.core.processes.distributed import rank, world_size
from ssl_lt.core.types import Batch
from ssl_lt.data.dataset import Data
from ssl_lt.data.tables.table import ImageTable
from ssl_lt.evaluate.features.features import Features, by_index, gather_features

_BATCH_SIZE = 512


def embed_dataset(
    network: nn.Module,
    table: ImageTable,
    data: Data,
    *,
    precision: Precision,
    batch_size: int = _BATCH_SIZE,
    view: Callable[[Batch], Tensor] | None = None,
) -> Features:
    """Features of every image of a table, on every rank; the ranks share the work.

    Args:
        network: (B, 3, S, S) -> (B, D); left in the mode it was in.
        table: images.
        data: says how they are normalised and read.
        precision: of the forward pass.
        batch_size: images a forward pass.
        view: uint8 images on the network's device -> (B, 3, S, S) float; None: normalised alone.

    Raises:
        DataError: no image at all, or one that cannot be decoded.
    """
    from ssl_lt.data.loading.ordered import ordered_batches

    device = next(network.parameters()).device
    plain = PlainView(data.spec).to(device)
    batches = ordered_batches(
        table,
        batch_size=max(1, min(batch_size, len(table) // world_size())),
        spec=data.spec,
        device=device,
        workers=data.options.workers,
    )

    def normalised(batch: Batch) -> Tensor:
        return plain.to_network(batch.images)

    to_floats = view or normalised
    own = islice(batches, rank(), None, world_size())
    seen = (replace(batch, images=to_floats(batch)) for batch in own)
    share = embed_batches(network, seen, autocast_dtype=autocast_dtype(precision, device))
    found = gather_features(share, device=device)
    return found if table.group_ids is None else replace(found, group_ids=table.group_ids)


def embed_batches(
    network: nn.Module, batches: Iterable[Batch], *, autocast_dtype: torch.dtype | None = None
) -> Features:
    """The same of batches at hand; nothing is exchanged between processes.

    Args:
        network: (B, 3, S, S) -> (B, D); left in the mode it was in.
        batches: normalised float images; an image that is repeated counts once.
        autocast_dtype: of the forward pass, e.g. torch.bfloat16; None for float32.

    Raises:
        DataError: no image at all.
        AssertionError: the network's weights or running statistics changed on the way.
    """
    device = next(network.parameters()).device
    before = _fingerprint(network)
    enabled = autocast_dtype is not None

    # Batch by batch: what makes the next batch is in neither mode.
    def features(images: Tensor) -> Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=autocast_dtype, enabled=enabled),
        ):
            images = images.to(device, non_blocking=True)
            output: Tensor = network(images.contiguous(memory_format=torch.channels_last))
            return output.float().cpu()

    with evaluation_mode(network):
        parts = [(features(b.images), b.labels.cpu(), b.index.cpu()) for b in batches]
    assert torch.equal(before, _fingerprint(network)), "the network changed while it was frozen"
    if not parts:
        raise DataError("feature extraction: there is no image")
    return by_index(*(torch.cat(column) for column in zip(*parts, strict=True)))


def classifier_predictions(
    network: nn.Module, table: ImageTable, data: Data, *, precision: Precision
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and true classes of every image, by a network that ends in logits."""
    logits = embed_dataset(network, table, data, precision=precision)
    return torch.argmax(logits.features, dim=1).numpy(), logits.labels.numpy()


def accuracy_on(
    table: ImageTable, data: Data, *, precision: Precision
) -> Callable[[nn.Module], Tensor]:
    """Network that ends in logits -> (C,) accuracy on a table, NaN for classes not in it."""

    def accuracy_per_class(network: nn.Module) -> Tensor:
        predictions, labels = classifier_predictions(network, table, data, precision=precision)
        seen = np.bincount(labels, minlength=data.num_classes)
        right = np.bincount(labels[predictions == labels], minlength=data.num_classes)
        return (torch.from_numpy(right).double() / torch.from_numpy(seen)).float()

    return accuracy_per_class


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and back to what each submodule had: some may be frozen on purpose."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


def _fingerprint(module: nn.Module) -> Tensor:
    """Sum and sum of squares of all parameters and buffers, in the bits of float64.

    As int64 bits, so that weights with a NaN compare equal to themselves.
    """
    tensors = [t.detach() for t in (*module.parameters(), *module.buffers())]
    sums = [torch.stack([t.double().sum(), t.double().square().sum()]) for t in tensors]
    return torch.stack(sums).view(torch.int64).cpu()
