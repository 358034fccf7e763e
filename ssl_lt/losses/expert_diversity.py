"""RIDE: several experts learn the same classes, and are pushed to differ.

Paper (arXiv:2010.01809) and released code differ, and we follow the code:

- The paper sums the divergence over pairs of experts; the code takes it from the mean of the
  experts, once an expert, and lets no gradient through the mean.
- With a diversity weight of exactly 0 the code trains the mean of the experts instead of each one.
  We do not: 0 is the limit of small weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.task import EpochAware
from ssl_lt.core.types import Epoch


def expert_divergences(expert_logits: Tensor, temperatures: Tensor) -> Tensor:
    """How far each expert is from the mean: `mean(T)^2 KL(p || p_e)`.

    `p = softmax(mean_e z_e / T)`, without gradient, and `p_e = softmax(z_e / T)` (Eq. 2 of
    arXiv:2010.01809, with the mean in place of the other experts).

    Args:
        expert_logits: (E, B, C), `z`.
        temperatures: (C,) > 0, `T`: what the logits of each class are divided by.

    Returns:
        (E, B), at least 0.
    """
    mean = F.log_softmax(expert_logits.detach().mean(dim=0) / temperatures, dim=1)
    own = F.log_softmax(expert_logits / temperatures, dim=2)
    divergence = (mean.exp() * (mean - own)).sum(dim=2)
    return temperatures.mean() ** 2 * divergence


def class_temperatures(counts_per_class: Tensor, *, strength: float) -> Tensor:
    """(C,) `w_j / max_k w_k` with `w_j = strength * C pi_j + 1 - strength`.

    The most frequent class has 1, rare classes less: their logits count for more in the divergence.

    Args:
        counts_per_class: (C,) training images; `pi_j` is class j's share of them.
        strength: in [0, 1); 0 gives 1 for every class.
    """
    counts = counts_per_class.to(torch.float64)
    weights = strength * len(counts) * counts / counts.sum() + 1 - strength
    return weights / weights.max()


class DiverseExpertsLoss(EpochAware):
    """`sum_e [ loss(z_e, y) + lambda mean(T)^2 KL(p || p_e) ]` of each sample.

    Args:
        loss: of one expert, (B, C) logits, (B,) labels -> (B,).
        counts_per_class: (C,) training images of each class.
        weight: `lambda`; negative pushes the experts apart.
        temperature: of all classes until `start`, and factor on the class temperatures after it.
        strength: of `class_temperatures`.
        start: share of the epochs that pass before classes have temperatures of their own.
    """

    temperatures: Tensor
    late_temperatures: Tensor

    def __init__(
        self,
        loss: nn.Module,
        counts_per_class: Tensor,
        *,
        weight: float,
        temperature: float,
        strength: float,
        start: float,
    ) -> None:
        super().__init__()
        self.loss, self.weight, self.temperature, self.start = loss, weight, temperature, start
        late = temperature * class_temperatures(counts_per_class, strength=strength)
        # Follow from the data and the epoch, so they are not saved with the weights.
        self.register_buffer("late_temperatures", late.float(), persistent=False)
        first = torch.full((len(late),), temperature)
        self.register_buffer("temperatures", first, persistent=False)

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Chooses the temperatures of the epoch."""
        if epoch.number >= self.start * epoch.total:
            self.temperatures.copy_(self.late_temperatures)
        else:
            self.temperatures.fill_(self.temperature)

    def forward(self, expert_logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (E, B, C) logits."""
        losses = torch.stack([self.loss(logits, labels) for logits in expert_logits])
        divergences = expert_divergences(expert_logits, self.temperatures)
        return (losses + self.weight * divergences).sum(dim=0)
