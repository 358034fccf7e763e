"""Rebalanced contrast: the balanced softmax inside a supervised contrast (arXiv:2312.01753).

No code was released, and four things are left open by the text. Ours:

- Eq. 4 sums over the rows of a class and does not average: `class_average` chooses the other.
- Eq. 4 has no prototypes: `use_prototypes` adds them. With both it is Eq. 5.
- Eq. 5 leaves the anchor out of its own class's average, as the released code of balanced
  contrastive learning does.
- `n_j` are training counts. Counts and priors give the same loss, because it sees ratios only.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ssl_lt.losses.balanced_contrastive import class_average_divisors
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.logit_adjustment import class_log_prior
from ssl_lt.losses.supervised_contrastive import ContrastOptions, supervised_contrastive


def rebalanced_contrastive(
    rows: LabelledRows, log_frequency: Tensor, *, temperature: float
) -> Tensor:
    """Rebalanced contrastive loss of each anchor (RCL, Eq. 4 of arXiv:2312.01753).

    `L_i = -1/|P_i| sum_{p in P_i} log( n_y exp(z_i.z_p/t) / sum_{k != i} n_{y_k} exp(z_i.z_k/t) )`.
    In other words (Eq. 7) similarities keep a margin, `z_i.z_p - z_i.z_k >= t log(n_{y_k} / n_y)`,
    which is wide between a tail anchor and head keys. Uniform counts give the plain supervised
    contrast.

    Args:
        rows: anchors and keys; with prototypes where those should be keys as well.
        log_frequency: (C,), `log n_j` up to a constant.
        temperature: `t` > 0.

    Returns:
        (A,) losses.
    """
    return supervised_contrastive(rows, temperature=temperature, log_frequency=log_frequency)


def class_averaged_rebalanced_contrastive(
    rows: LabelledRows, log_frequency: Tensor, *, temperature: float
) -> Tensor:
    """Rebalanced loss of each anchor with averages over classes (BCL+RCL, Eq. 5).

    `L_i = -1/|P_i| sum_{p in P_i} log( n_y exp(z_i.z_p/t) / sum_j n_j/d_ij sum_{k in B_j + c_j,
    k != i} exp(z_i.z_k/t) )`, with `d_ij` of `class_average_divisors`. Uniform counts give the
    balanced contrast.

    Args:
        rows: anchors and keys, with the prototypes among them.
        log_frequency: (C,), `log n_j` up to a constant.
        temperature: `t` > 0.

    Returns:
        (A,) losses.
    """
    divisors = class_average_divisors(rows, num_classes=len(log_frequency))
    return supervised_contrastive(
        rows, temperature=temperature, log_frequency=log_frequency, divisors=divisors
    )


@dataclass(frozen=True)
class BalancedRebalancedOptions(ContrastOptions):
    """BCL+RCL (Eq. 5); the paper's weights and tau for CIFAR-100-LT."""

    tau: float = 1.3
    """How much of the log-prior is added to the logits of the classification."""
    frequency_power: float = 1.0
    """Classes are weighted by their training counts to this power; 0: not at all."""


@dataclass(frozen=True)
class RebalancedOptions(BalancedRebalancedOptions):
    """RCL (Eq. 4); the paper's weights and tau for CIFAR-100-LT."""

    class_average: bool = False
    """Average over the rows of a class in the denominator instead of summing."""
    use_prototypes: bool = False
    """Add the classes' prototypes to the keys."""


class RebalancedContrast(nn.Module):
    """RCL as a module.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: temperature, power of the counts, and which terms the denominator has.

    Raises:
        ConfigError: a class without images.
    """

    log_frequency: Tensor

    def __init__(self, counts_per_class: Tensor, options: RebalancedOptions) -> None:
        super().__init__()
        self.temperature = options.temperature
        self.uses_prototypes = options.use_prototypes
        self.loss = (
            class_averaged_rebalanced_contrastive
            if options.class_average
            else rebalanced_contrastive
        )
        # Follows from the data, so it is not saved with the weights.
        log_frequency = options.frequency_power * class_log_prior(counts_per_class)
        self.register_buffer("log_frequency", log_frequency, persistent=False)

    def forward(self, rows: LabelledRows, prototypes: Tensor | None) -> Tensor:
        """(A,) losses; `prototypes` (C, D) are keys, too; None: there are none."""
        if prototypes is not None:
            rows = rows.with_prototypes(prototypes)
        return self.loss(rows, self.log_frequency, temperature=self.temperature)


def balanced_rebalanced(
    counts_per_class: Tensor, options: BalancedRebalancedOptions
) -> RebalancedContrast:
    """BCL+RCL: RCL with class averages and prototypes."""
    return RebalancedContrast(
        counts_per_class,
        RebalancedOptions(
            temperature=options.temperature,
            frequency_power=options.frequency_power,
            class_average=True,
            use_prototypes=True,
        ),
    )
