"""Which classes are behind, and by how much their embeddings are compressed for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.processes.distributed import gather_rows
from ssl_lt.core.types import Epoch
from ssl_lt.losses.feature_compression import factors_of_weak_classes


class WeakClasses:
    """Finds the classes below the mean accuracy, anew after each epoch from some epoch on.

    The paper (arXiv:2312.01753) goes by accuracy on validation data, which long-tailed CIFAR does
    not have; the test split must not choose anything. So we go by training images that were held
    out, or, where none were, by the accuracy on the augmented training images of the epoch, which
    every rank counts over the rows of all ranks.

    Args:
        num_classes: C.
        factor: of the weak classes.
        start: share of the epochs that pass without compression.
        held_out_accuracy: network that ends in logits -> (C,), NaN for a class without held-out
            images; None: nothing is held out.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        factor: float,
        start: float,
        held_out_accuracy: Callable[[nn.Module], Tensor] | None = None,
    ) -> None:
        self.factor, self.start = factor, start
        self.held_out_accuracy = held_out_accuracy
        zeros = torch.zeros(num_classes)
        tables = {"seen": zeros, "right": zeros.clone(), "factors": torch.ones(num_classes)}
        self.memory = SampleMemory("weak_classes", tables)

    @property
    def factors(self) -> Tensor:
        """(C,) of the epoch under way."""
        return self.memory.tables["factors"]

    def observe(self, labels: Tensor, right: Tensor) -> None:
        """Counts a batch: (B,) int64 classes, and (B,) bool whether they were found."""
        tables = self.memory.tables
        rows = gather_rows(torch.stack([labels, right.to(labels.dtype)], dim=1))
        hits = rows[:, 1].to(tables["right"].dtype)
        tables["seen"].index_add_(0, rows[:, 0], torch.ones_like(hits))
        tables["right"].index_add_(0, rows[:, 0], hits)

    def on_epoch_end(self, epoch: Epoch, network: nn.Module) -> None:
        """Sets the factors of the next epoch, `network` as it is, and counts from 0 again."""
        tables = self.memory.tables
        if epoch.number + 1 >= self.start * epoch.total:
            # A class no batch of the epoch held counts as weak.
            accuracy = tables["right"] / tables["seen"].clamp(min=1)
            if self.held_out_accuracy is not None:
                accuracy = self.held_out_accuracy(network).to(accuracy.device)
            tables["factors"].copy_(factors_of_weak_classes(accuracy, factor=self.factor))
        tables["seen"].zero_()
        tables["right"].zero_()
