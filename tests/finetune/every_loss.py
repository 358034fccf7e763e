"""Each loss of `finetune.py` as the command line puts it together, on a few of the digits.

The names come from the registries: a new loss is tested by being registered.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from ssl_lt.core.types import Batch
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.runs.build.finetuning import build_task
from tests.configs import finetuning

NAMES = list(LOSSES)
BATCH_SIZE = 24
_VALUES = {
    "init-from": "scratch",
    "batch-size": BATCH_SIZE,
    "epochs": 2,
    "mixed-precision": "no",
    "num-workers": 0,
}


@cache
def digits():
    """101 of the digits, of every class: no number of processes divides it."""
    data = open_data(DataOptions())
    labels = data.train.labels.numpy()
    rows = np.concatenate([np.flatnonzero(labels == c)[: 15 - c] for c in range(10)])[:101]
    counts = tuple(np.bincount(labels[rows], minlength=10).tolist())
    split = replace(data.split, counts_per_class=counts, indices=data.split.indices[rows])
    return replace(data, split=split, train=data.train.take(rows))


# Batch norms, whose statistics the processes share; layer norms, with which they exchange less.
BATCH_NORMS = {"backbone": "resnet20_cifar", "width": 4}
LAYER_NORMS = {"backbone": "test_convnext"}


def config(loss, *, backbone, **values):
    """With further flags, by name in which `_` stands for `-`."""
    words = {name.replace("_", "-"): value for name, value in values.items()}
    return finetuning(loss, {**_VALUES, **backbone, **words})


def task(loss, *, backbone, **values):
    return build_task(config(loss, backbone=backbone, **values), digits())


def batch(number):
    """The only batch of an epoch of its own."""
    table = digits().train
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(number))
    rows = order[:BATCH_SIZE]
    return Batch(table.pixels[rows], table.labels[rows], rows)
