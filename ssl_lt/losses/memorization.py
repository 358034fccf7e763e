"""How late a sample is memorised (Boosted Contrastive Learning, ICML 2022, arXiv:2205.12693).

Networks memorise frequent patterns first, so a sample whose contrastive loss stays high is
likely one of the tail.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.memory import SampleMemory, first_rows
from ssl_lt.core.processes.distributed import gather_rows


def averaged_loss(average: Tensor, seen: Tensor, losses: Tensor, *, beta: float) -> Tensor:
    """Computes beta M + (1 - beta) L, and L where there is no M yet.

    Args:
        average: (B,) M, the moving average so far.
        seen: (B,) bool, whether there is one.
        losses: (B,) L.
        beta: share of the old value.
    """
    return torch.where(seen, beta * average + (1 - beta) * losses, losses)


def boost_weights(average: Tensor, seen: Tensor) -> Tensor:
    """Weights w = 1/2 + (M - mean M) / (2 max |M - mean M|) over the samples seen so far.

    The average sample has 1/2. So have samples not seen yet, about which nothing is known, and
    all samples where all averages are equal.

    Args:
        average: (N,) M, the moving average of each sample's loss.
        seen: (N,) bool, whether there is one.

    Returns:
        (N,) in [0, 1].
    """
    total = average.masked_fill(~seen, 0).sum()
    deviation = (average - total / seen.sum().clamp(min=1)).masked_fill(~seen, 0)
    largest = deviation.abs().amax()
    return 0.5 + 0.5 * deviation / torch.where(largest > 0, largest, 1)


class MemorizationMemory(SampleMemory):
    """A moving average of each sample's loss, and the weights in [0, 1] that follow from it.

    `update` in every step, `refresh` at the end of an epoch; `strength` is then how strongly to
    augment a sample in the next epoch: high where it is memorised late, 0 in the first epoch.
    Several processes gather their samples, so that all have the same memory; its `state_dict`
    belongs into the checkpoint.

    Args:
        num_samples: N, size of the training set.
        beta: momentum of the averages, per epoch.

    Raises:
        ConfigError: no sample, or `beta` outside [0, 1).
    """

    def __init__(self, num_samples: int, *, beta: float = 0.97) -> None:
        if num_samples < 1:
            raise ConfigError(f"num_samples: {num_samples}, must be at least 1")
        self.beta = beta
        check_range(self, {"beta": "[0, 1)"}, prefix="bcl.")
        super().__init__(
            "boost",
            {
                "average": torch.zeros(num_samples),
                "seen": torch.zeros(num_samples, dtype=torch.bool),
                "weight": torch.zeros(num_samples),
            },
            per_sample=["average", "seen", "weight"],
        )

    @property
    def weights(self) -> Tensor:
        """(N,) weights in use, in [0, 1]."""
        return self.tables["weight"]

    def strength(self, index: Tensor) -> Tensor:
        """(B,) weights in use of the samples `index` (B,) int64."""
        return self.weights[index.to(self.weights.device)]

    @torch.no_grad()
    def update(self, index: Tensor, losses: Tensor) -> None:
        """Moves the averages of the samples of all ranks.

        A sample that stands in the global batch more than once counts once, with its first loss.
        A loss that is not finite is left out: through the mean it would spoil every weight.

        Args:
            index: (B,) int64, rows in the training set.
            losses: (B,) contrastive loss of each sample, as of `reduction="none"`.

        Raises:
            ConfigError: not one loss a sample.
        """
        if index.ndim != 1 or index.shape != losses.shape:
            raise ConfigError(
                f"losses: shape {tuple(losses.shape)}, expected one a sample of {len(index)}"
            )
        if self.weights.device != losses.device:
            self.to(losses.device)
        average, seen = self.tables["average"], self.tables["seen"]
        index = gather_rows(index.to(losses.device))
        losses = gather_rows(losses.detach().to(average.dtype))
        losses = losses[first_rows(index)]
        known = losses.isfinite()
        old, was_seen = average[index], seen[index]
        new = averaged_loss(old, was_seen, losses, beta=self.beta)
        average[index] = torch.where(known, new, old)
        seen[index] = was_seen | known

    def refresh(self) -> None:
        """Sets the weights for the next epoch."""
        self.tables["weight"] = boost_weights(self.tables["average"], self.tables["seen"])
