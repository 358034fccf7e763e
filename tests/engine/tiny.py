"""A task and a loader small enough to train in a test."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.random import permutation
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, Epoch, StepOutput
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.plan import FitOptions, FitSettings
from ssl_lt.engine.schedule import ScheduleOptions


class TinyTask(TrainTask):
    """Convolution, batch norm, dropout; remembers how often it saw each sample."""

    def __init__(self, num_samples: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(32, 4)
        self.memory = SampleMemory("seen", {"count": torch.zeros(num_samples)})
        self.epochs_started: list[int] = []

    def forward(self, batch: Batch) -> StepOutput:
        logits = self.out(self.dropout(self.net(batch.images.float() / 255))).float()
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        with torch.no_grad():
            self.memory.tables["count"][batch.index] += losses.detach()
        return StepOutput(losses.mean(), {"largest": losses.detach().max()})

    def on_epoch_start(self, epoch: Epoch) -> None:
        self.epochs_started.append(epoch.number)

    def memories(self) -> list[SampleMemory]:
        return [self.memory]


class TinyLoader:
    """64 random pictures in batches of 16."""

    def __init__(self, num_samples: int = 64, batch_size: int = 16) -> None:
        generator = torch.Generator().manual_seed(1)
        shape = (num_samples, 3, 8, 8)
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        self.labels = torch.randint(0, 4, (num_samples,), generator=generator)
        self.batch_size = batch_size
        self.steps_per_epoch = num_samples // batch_size

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        order = permutation(len(self.images), seed=0, epoch=number)
        for step in range(first_step, self.steps_per_epoch):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield Batch(self.images[rows], self.labels[rows], rows)


def plan(**fit: object) -> FitSettings:
    """Three epochs of four steps, a line every third."""
    options = FitOptions(**{"epochs": 3, "log_every": 3, "mixed_precision": "no", **fit})
    return FitSettings(options, OptimOptions(lr=0.1), ScheduleOptions(), seed=0)
