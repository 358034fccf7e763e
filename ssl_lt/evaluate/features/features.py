"""Features of a frozen network: one vector an image, computed once and kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.processes.distributed import gather_rows, world_size
from ssl_lt.data.splits.hold_out import held_out_rows


@dataclass(frozen=True)
class Features:
    """One vector an image, in the order of `index`; all on the CPU.

    Attributes:
        features: (N, D) float32.
        labels: (N,) int64, -1 where unknown.
        index: (N,) int64, ascending: the image's row in its data set.
        group_ids: (N,) int64, equal where images belong together; None: each stands alone.
    """

    features: Tensor
    labels: Tensor
    index: Tensor
    group_ids: Tensor | None = None

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def take(self, rows: Tensor) -> Features:
        """Some of the images, by position or by mask."""
        groups = None if self.group_ids is None else self.group_ids[rows]
        return Features(self.features[rows], self.labels[rows], self.index[rows], groups)

    def held_out(self, *, share: float, seed: int) -> Tensor:
        """(N,) bool: the images that choose what is fitted to the others, see `held_out_rows`."""
        return held_out_rows(
            self.labels, self.index, share=share, seed=seed, group_ids=self.group_ids
        )


def by_index(features: Tensor, labels: Tensor, index: Tensor) -> Features:
    """In ascending order of the images; of an image that is repeated the first is kept."""
    order = torch.argsort(index, stable=True)
    keep = order[torch.cat([torch.ones(1, dtype=torch.bool), index[order].diff() > 0])]
    return Features(features[keep], labels[keep], index[keep])


def gather_features(part: Features, *, device: torch.device) -> Features:
    """The images of all processes, on all of them; each may bring another number of images.

    Args:
        part: this process's images.
        device: what the processes exchange tensors on.
    """
    if world_size() == 1:
        return part
    counts = gather_rows(torch.tensor([len(part)], device=device)).tolist()
    longest = max(counts)
    kept = torch.cat([torch.arange(n) + number * longest for number, n in enumerate(counts)])

    def gather(rows: Tensor) -> Tensor:
        padded = rows.new_zeros((longest, *rows.shape[1:]), device=device)
        padded[: rows.shape[0]] = rows.to(device)
        return gather_rows(padded).cpu()[kept]

    return by_index(gather(part.features), gather(part.labels), gather(part.index))
