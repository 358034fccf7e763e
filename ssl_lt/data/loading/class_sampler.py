"""Classes drawn as often as their number of images to some power: as a sampler of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.loading.class_sampled_plan import drawn_classes, rows_of_classes


def power_rates(counts_per_class: Tensor, *, power: float) -> Tensor:
    """`p_j = n_j^q / sum_k n_k^q` (Eq. 1 of arXiv:1910.09217).

    Args:
        counts_per_class: (C,) training images of each class; one without any is never drawn.
        power: `q`: 1 draws images uniformly, 0 classes, 1/2 in between.

    Returns:
        (C,) float64.
    """
    counts = counts_per_class.to(torch.float64)
    rates = torch.where(counts > 0, counts**power, 0.0)
    return rates / rates.sum()


class ClassBalancedSampler(Sampler[int]):
    """Rows by class, for `DataLoader(data, sampler=...)`: the draws of `finetune.py --sampler`.

    Classes come as often as `power_rates` says, give or take 2 an epoch, in random order; all rows
    of a class come before one of them comes again. What an epoch draws is a function of the seed
    and its number: each pass takes the next one, and `set_epoch` names one.

    Args:
        labels: (N,) class of each row, 0 or more.
        power: `q`: 0 is `--sampler class_balanced`, 1/2 `square_root`; 1 draws rows uniformly.
        num_samples: rows an epoch; None: N.
        seed: of the draws.

    Raises:
        DataError: labels that are no whole numbers from 0 on.
        ConfigError: `power` outside [0, 1], or `num_samples` below 1.
    """

    def __init__(
        self,
        labels: Tensor | Sequence[int] | NDArray[Any],
        *,
        power: float = 0.0,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        self.labels = torch.as_tensor(labels).cpu()
        if self.labels.ndim != 1 or not len(self.labels) or self.labels.is_floating_point():
            raise DataError(
                f"labels: {self.labels.dtype} of shape {tuple(self.labels.shape)}, expected one "
                "whole number a row"
            )
        self.labels = self.labels.long()
        if self.labels.min() < 0:
            raise DataError(f"labels: {int(self.labels.min())} is no class")
        self.power, self.seed, self.epoch = power, seed, 0
        check_range(self, {"power": "[0, 1]"})
        self.num_samples = len(self.labels) if num_samples is None else num_samples
        if self.num_samples < 1:
            raise ConfigError(f"num_samples: {num_samples}, must be at least 1")
        self.rates = power_rates(torch.bincount(self.labels), power=power)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next pass is, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        seed, epoch = self.seed, self.epoch
        self.epoch += 1
        classes = drawn_classes(self.rates, self.num_samples, seed=seed, epoch=epoch)
        rows, _ = rows_of_classes(classes, self.labels, seed=seed, epoch=epoch)
        return iter(rows.tolist())

    def __len__(self) -> int:
        return self.num_samples
