"""A step of `--tune KIND` on two processes is that of one, for every kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ssl_lt.augment.views import WeakView
from ssl_lt.core.types import Batch, ImageSpec
from ssl_lt.finetune.tasks.classifier_task import ClassifierTask
from ssl_lt.losses.cross_entropy import CrossEntropy, CrossEntropyOptions
from ssl_lt.models.backbones import feature_dim
from ssl_lt.models.batch_norm import synchronised
from ssl_lt.models.tuning.registry import TUNINGS
from tests.distributed.pool import NUM_RANKS, run_on_two
from tests.finetune import toy
from tests.models.tuning.networks import trained_a_little, tuned

KINDS = [kind.replace("K", "1") for kind in TUNINGS]
CASES = [("test_vit", kind) for kind in KINDS]
CASES += [("resnet20_cifar", k) for k in KINDS if k not in ("adaptformer", "lora")]


class DoubleView(WeakView):
    """In float64, where nothing but an error of ours is larger than the tolerance."""

    def forward(self, images, keys, strength=None):
        return super().forward(images, keys, strength).double()


def task(name, kind):
    backbone = trained_a_little(tuned(name, kind))
    torch.manual_seed(1)
    parts = toy.modules(
        backbone=backbone,
        classifier=nn.Linear(feature_dim(backbone), 4),
        view=DoubleView(ImageSpec(32, mean=[0.5] * 3, std=[0.25] * 3), flip_probability=0.5),
        tune=kind,
    )
    loss = CrossEntropy(torch.ones(4), CrossEntropyOptions())
    return ClassifierTask(parts, loss).double()


def step(task, rows):
    """Gradients and buffers of one step on some rows of a fixed batch."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator)
    index = torch.arange(8)
    task.train()
    task(Batch(images[rows], index[rows] % 4, index[rows])).loss.backward()
    module = task.module if isinstance(task, DistributedDataParallel) else task
    gradients = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    return gradients, dict(module.backbone.named_buffers())


def steps_of_one_rank(rank):
    share = 8 // NUM_RANKS
    rows = slice(rank * share, (rank + 1) * share)
    return [
        step(DistributedDataParallel(synchronised(task(*case)), broadcast_buffers=False), rows)
        for case in CASES
    ]


@pytest.mark.distributed
def test_a_step_of_two_processes_is_that_of_one():
    ranks = run_on_two(steps_of_one_rank)
    for number, case in enumerate(CASES):
        gradients, buffers = step(task(*case), slice(None))
        assert all(gradient.any() for gradient in gradients.values()), case
        largest = max(gradient.abs().max().item() for gradient in gradients.values())
        for found, found_buffers in (rank[number] for rank in ranks):
            assert found.keys() == gradients.keys()
            for name, gradient in gradients.items():
                close = {"rtol": 1e-6, "atol": 1e-9 * largest}
                torch.testing.assert_close(found[name], gradient, **close)
            for name, buffer in buffers.items():
                torch.testing.assert_close(found_buffers[name], buffer, rtol=1e-6, atol=1e-9)
