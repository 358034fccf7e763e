"""Vector-scaling loss: logits multiplied and shifted by class (arXiv:2103.01550)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import EpochAware
from ssl_lt.core.types import Epoch
from ssl_lt.losses.class_counts import positive_counts
from ssl_lt.losses.cross_entropy import cross_entropy
from ssl_lt.losses.focal import check_gamma
from ssl_lt.losses.logit_adjustment import LogitAdjustmentOptions, class_log_prior


def vector_scaling(logits: Tensor, labels: Tensor, factors: Tensor, shifts: Tensor) -> Tensor:
    """Cross-entropy of `beta_j f_j + Delta_j` (arXiv:2103.01550, its weights left out).

    Factors of 1 give logit adjustment, shifts of 0 the class-dependent temperature.

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64.
        factors: (C,), `beta`.
        shifts: (C,), `Delta`.

    Returns:
        (B,) losses.
    """
    return cross_entropy(factors * logits + shifts, labels)


def vector_scaling_factors(counts_per_class: Tensor, *, gamma: float) -> Tensor:
    """(C,) `beta_j = (n_j / n_max)^gamma`: 1 for the largest class, the smaller the rarer.

    The paper and its code write `D_j = 1 / beta_j` and divide.

    Raises:
        ConfigError: a class without images.
    """
    counts = positive_counts(counts_per_class)
    return (counts / counts.max()) ** gamma


@dataclass(frozen=True)
class VectorScalingOptions(LogitAdjustmentOptions):
    """Options of the vector-scaling loss; gamma and tau are the released code's."""

    tau: float = 1.0
    """How much of the log-prior is added to the logits."""
    gamma: float = 0.3
    """Logits are multiplied by (n_j / n_max) to this power; 0: logit adjustment."""
    truncate_after: float = 1.0
    """Share of the epochs after which logits are only shifted, as in TLA; 1: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gamma(self.gamma)
        if not 0 <= self.truncate_after <= 1:
            raise ConfigError(f"--truncate-after: {self.truncate_after} is outside [0, 1]")


class VectorScaling(EpochAware):
    """`vector_scaling` as a module; truncated (TLA, arXiv:2310.04752) from some epoch on.

    The first epoch without factors is `truncate_after * total`, counted from 0, as in the released
    code of TLA.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: `tau`, `gamma` and when to truncate.

    Raises:
        ConfigError: a class without images.
    """

    all_factors: Tensor
    factors: Tensor
    shifts: Tensor

    def __init__(self, counts_per_class: Tensor, options: VectorScalingOptions) -> None:
        super().__init__()
        self.truncate_after = options.truncate_after
        factors = vector_scaling_factors(counts_per_class, gamma=options.gamma)
        shifts = options.tau * class_log_prior(counts_per_class)
        # They follow from the data and the epoch, so they are not saved with the weights.
        self.register_buffer("all_factors", factors, persistent=False)
        self.register_buffer("factors", factors.clone(), persistent=False)
        self.register_buffer("shifts", shifts, persistent=False)

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Sets the factors of the epoch."""
        if epoch.number >= self.truncate_after * epoch.total:
            self.factors.fill_(1)
        else:
            self.factors.copy_(self.all_factors)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits."""
        return vector_scaling(logits, labels, self.factors, self.shifts)
