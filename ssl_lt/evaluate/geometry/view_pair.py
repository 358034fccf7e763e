"""Two augmented views of training images through a backbone: what alignment is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_lt.augment.views import LARGE_IMAGE_VIEW, SMALL_IMAGE_VIEW, ContrastiveView
from ssl_lt.core.distributed import rank, world_size
from ssl_lt.core.precision import autocast_dtype
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import Batch
from ssl_lt.data.dataset import Data
from ssl_lt.data.splits.hold_out import rank_within_class
from ssl_lt.evaluate.features.extract import Features, extract_features, gather_features
from ssl_lt.evaluate.geometry.representation import ViewPair

_NUM_IMAGES = 2048
_SMALL_PIXELS = 96


def view_pair(backbone: nn.Module, data: Data, *, batch_size: int, seed: int = 0) -> ViewPair:
    """Features of two views of about 2,048 training images, as many of each class as there are.

    The views are SimCLR's for pictures of this size, whatever the run was trained with: what is
    compared must be measured alike.

    Args:
        backbone: (B, 3, S, S) -> (B, D); the ranks share the work.
        data: labelled.
        batch_size: images a forward pass.
        seed: of the images and their views.
    """
    per_class = -(-_NUM_IMAGES // data.num_classes)
    labels = data.train.labels
    places = rank_within_class(labels, torch.arange(len(labels)), seed=seed)
    rows = torch.nonzero(places < per_class)[:, 0].numpy()
    first, second = (
        _view(backbone, data, rows, batch_size=batch_size, keys=(seed, view)) for view in (0, 1)
    )
    return ViewPair(first.features.numpy(), second.features.numpy(), first.labels.numpy())


def _view(
    backbone: nn.Module,
    data: Data,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    keys: tuple[int, int],
) -> Features:
    from ssl_lt.data.loading.ordered import ordered_batches

    device = next(backbone.parameters()).device
    size = data.image_size
    options = SMALL_IMAGE_VIEW if size <= _SMALL_PIXELS else LARGE_IMAGE_VIEW
    view = ContrastiveView(options, size=size, mean=data.source.mean, std=data.source.std)
    view.to(device)
    batches = ordered_batches(
        data.train.take(rows),
        batch_size=max(1, min(batch_size, len(rows) // world_size())),
        image_size=size,
        device=device,
        workers=data.options.workers,
    )
    image = torch.from_numpy(rows).to(device)
    seed, number = keys

    def views() -> Iterator[Batch]:
        for batch in islice(batches, rank(), None, world_size()):
            drawn = sample_keys(image[batch.index], seed=seed, epoch=0, view=number)
            yield replace(batch, images=view(batch.images, drawn))

    def as_it_is(images: Tensor) -> Tensor:
        return images

    dtype = autocast_dtype("auto", device)
    share = extract_features(backbone, views(), as_it_is, autocast_dtype=dtype)
    return gather_features(share, device=device)
