"""Small networks, a view and batches for tests of the two-view methods."""

from __future__ import annotations

import torch
from torch import nn

from ssl_lt.core.random import draw_id, uniform
from ssl_lt.core.types import Batch, Epoch
from ssl_lt.pretrain.parts import TwoViewParts

NUM_SAMPLES = 24
_LIGHT = draw_id("toy light")
_PLACE = draw_id("toy place")


def view(images, keys, strength):
    """Light and a horizontal shift, drawn for each sample."""
    light = 0.5 + uniform(keys, _LIGHT)[:, 0].double()
    flip = uniform(keys, _PLACE)[:, 0] < 0.5
    x = images.double() / 255 * light[:, None, None, None]
    return torch.where(flip[:, None, None, None], x.flip(-1), x)


def parts(plugins=(), seed=0):
    torch.manual_seed(seed)
    backbone = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    projector = nn.Sequential(
        nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5, bias=False)
    )
    return TwoViewParts(
        backbone.double(), projector.double(), view, list(plugins), num_samples=NUM_SAMPLES
    )


def batch(number, size=8):
    """The number-th batch: `size` samples, always the same pictures."""
    g = torch.Generator().manual_seed(1)
    images = torch.randint(256, (NUM_SAMPLES, 3, 8, 8), generator=g, dtype=torch.uint8)
    index = (torch.arange(size) * 5 + number * size) % NUM_SAMPLES
    return Batch(images[index], torch.full((size,), -1), index)


def half(whole, rank):
    """The rank's half of a batch."""
    size = len(whole) // 2
    rows = slice(rank * size, (rank + 1) * size)
    return Batch(whole.images[rows], whole.labels[rows], whole.index[rows])


def epoch(number):
    return Epoch(number=number, total=3, steps=4)


def optimizer(task):
    return torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9)


def train(task, steps, *, sgd, forward=None, share=lambda b: b):
    """Losses of the steps with these numbers; a step's batch is its number."""
    losses = []
    for number in steps:
        sgd.zero_grad()
        out = (forward or task)(share(batch(number)))
        out.loss.backward()
        sgd.step()
        losses.append(out.loss.item())
    return losses


def state(task):
    """All that a checkpoint would hold of a task, as copies."""
    memories = {f"{m.name}.{k}": v for m in task.memories() for k, v in m.state_dict().items()}
    return {k: v.clone() for k, v in (task.state_dict() | memories).items()}
