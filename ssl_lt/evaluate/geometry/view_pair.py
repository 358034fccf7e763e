"""Two augmented views of training images through a backbone: what alignment is measured on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lt.augment.views import LARGE_IMAGE_VIEW, SMALL_IMAGE_VIEW, ContrastiveView
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import LARGEST_SMALL, Batch
from ssl_lt.data.dataset import Data
from ssl_lt.data.splits.hold_out import rank_within_class
from ssl_lt.evaluate.features.embed import embed_dataset
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.geometry.representation import ViewPair

_NUM_IMAGES = 2048


def view_pair(backbone: nn.Module, data: Data, *, batch_size: int, seed: int = 0) -> ViewPair:
    """Features of two views of about 2,048 training images, as many of each class as there are.

    The views are SimCLR's for images of this size, whatever the run was trained with: what is
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
    size, image = data.image_size, torch.from_numpy(rows)
    options = SMALL_IMAGE_VIEW if size <= LARGEST_SMALL else LARGE_IMAGE_VIEW
    view = ContrastiveView(options, data.spec)
    view.to(next(backbone.parameters()).device)

    def features(number: int) -> Features:
        def drawn(batch: Batch) -> Tensor:
            index = image.to(batch.index.device)[batch.index]
            keys = sample_keys(index, seed=seed, epoch=0, view=number)
            images: Tensor = view(batch.images, keys)
            return images

        table = data.train.take(rows)
        return embed_dataset(
            backbone, table, data, precision="auto", batch_size=batch_size, view=drawn
        )

    first, second = features(0), features(1)
    return ViewPair(first.features.numpy(), second.features.numpy(), first.labels.numpy())
