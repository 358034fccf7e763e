"""The newest keys, and their classes."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.memory import SampleMemory
from ssl_lt.losses.parametric_contrastive import EMPTY


class KeyQueue:
    """A ring of the K newest keys.

    MoCo's release asks that K be a multiple of the batch size; here it need not be, because every
    key's slot is taken modulo K. The release also normalises its random first keys over the queue
    instead of over the features, which is a mistake; here slots are empty at first.

    Args:
        size: K.
        dim: P.
    """

    def __init__(self, size: int, dim: int) -> None:
        self.size = size
        self.memory = SampleMemory(
            "queue",
            {
                "keys": torch.zeros(size, dim),
                "labels": torch.full((size,), EMPTY),
                "next_slot": torch.zeros((), dtype=torch.int64),
            },
        )

    @property
    def keys(self) -> Tensor:
        """(K, P), zeros in empty slots."""
        return self.memory.tables["keys"]

    @property
    def labels(self) -> Tensor:
        """(K,) int64 classes, `EMPTY` in empty slots."""
        return self.memory.tables["labels"]

    def is_empty(self) -> bool:
        """True until the first keys come; waits for the device."""
        return bool((self.labels == EMPTY).all())

    @torch.no_grad()
    def push(self, keys: Tensor, labels: Tensor) -> None:
        """Puts keys in the place of the oldest.

        Args:
            keys: (N, P), rows of all ranks, unit norm over the features.
            labels: (N,) int64.
        """
        next_slot = self.memory.tables["next_slot"]
        # Of more than K keys the last stay, each in the slot that all of them would leave it in.
        newest = torch.arange(len(keys), device=keys.device)[-self.size :]
        slots = (next_slot + newest) % self.size
        self.keys[slots] = keys[newest].to(self.keys.dtype)
        self.labels[slots] = labels[newest]
        next_slot.copy_((next_slot + len(keys)) % self.size)
