"""A small contrast task in double precision, its views and batches."""

from __future__ import annotations

import torch
from torch import nn

from ssl_lt.core.random import draw_id, uniform
from ssl_lt.core.types import Batch, Epoch
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.finetune.tasks.contrast_task import Contrast, ContrastTask
from ssl_lt.finetune.tasks.weak_classes import WeakClasses
from ssl_lt.models.classifiers import CosineClassifier, linear_classifier
from ssl_lt.models.heads import contrast_head, prototype_head

NUM_SAMPLES, NUM_CLASSES = 24, 5
COUNTS = torch.tensor([11, 6, 4, 2, 1])
_LIGHT = draw_id("toy light")
CLASSIFIERS = {"linear": linear_classifier, "cosine": CosineClassifier}


class Light:
    """Multiplies each image by a number of its own."""

    def __init__(self, low):
        self.low = low

    def __call__(self, images, keys, strength=None):
        light = self.low + uniform(keys, _LIGHT)[:, 0].double()
        return images.double() / 255 * light[:, None, None, None]

    def after_crop(self, crops, keys, strength=None):
        return -self(crops, keys)


def no_features(network):
    raise AssertionError("no features were asked for")


def modules(**changed):
    """The parts of a toy task; its own in place of those that are named."""
    usual = {
        "num_features": 8,
        "view": Light(0.6),
        "contrastive_view": Light(0.3),
        "counts_per_class": COUNTS,
        "tune": "all",
        "train_features": no_features,
        "seed": 3,
    }
    return FinetuneModules(**usual | changed)


def task(loss, *, classifier="linear", weak_classes=None, **options):
    torch.manual_seed(0)
    entry = LOSSES[loss]
    chosen = entry.options(hidden_dim=7, output_dim=6, **options)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    head = CLASSIFIERS[classifier](8, NUM_CLASSES)
    contrast_loss = entry.contrast(COUNTS, chosen)
    widths = {"hidden_dim": 7, "output_dim": 6}
    contrast = Contrast(
        contrast_loss,
        Light(0.3),
        contrast_head(8, **widths),
        prototype_head(8, **widths) if contrast_loss.uses_prototypes else None,
        weight=chosen.contrast_weight,
        classification_weight=chosen.classification_weight,
        weak_classes=weak_classes,
    )
    parts = modules(backbone=backbone, classifier=head)
    return ContrastTask(parts, entry.build(COUNTS, chosen), contrast).double()


def weak(factor=0.5):
    return WeakClasses(NUM_CLASSES, factor=factor, start=0.0)


def batch(number, size=8):
    """The number-th batch: always the same pictures, each of a class of its own colour."""
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(NUM_CLASSES, (NUM_SAMPLES,), generator=g)
    images = torch.randint(128, (NUM_SAMPLES, 3, 6, 6), generator=g)
    images = images + 20 * labels[:, None, None, None] * torch.tensor([1, 0, -1])[:, None, None]
    index = (torch.arange(size) * 5 + number * size) % NUM_SAMPLES
    return Batch(images.clamp(0, 255).to(torch.uint8)[index], labels[index], index)


def half(whole, rank):
    """The rank's half of a batch."""
    size = len(whole) // 2
    rows = slice(rank * size, (rank + 1) * size)
    return Batch(whole.images[rows], whole.labels[rows], whole.index[rows])


def epoch(number, total=3):
    return Epoch(number=number, total=total, steps=4)
