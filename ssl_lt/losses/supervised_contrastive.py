"""Supervised contrast: rows of one class attract, all others repel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.logit_adjustment import LogitAdjustmentOptions


def supervised_contrastive(
    rows: LabelledRows,
    *,
    temperature: float,
    log_frequency: Tensor | None = None,
    divisors: Tensor | None = None,
) -> Tensor:
    """Supervised contrastive loss of each anchor (L_out, Eq. 2 of arXiv:2004.11362).

    `L_i = -1/|P_i| sum_{p in P_i} [ a_ip - log sum_{k != i} exp(a_ik) / d_ik ]`, where
    `a_ik = z_i . z_k / t + m_{y_k}`, and `P_i` are the other keys of the anchor's class. The plain
    loss has `m = 0` and `d = 1`; what the balanced and the rebalanced losses change is `d` and
    `m`. The released code multiplies by `t / 0.07`; the paper does not, and neither do we. An
    anchor without positives costs 0, as in the released code.

    Args:
        rows: anchors and keys.
        temperature: `t` > 0.
        log_frequency: (C,), `m`: added to the similarities with keys of each class.
        divisors: (A, K) > 0, `d`: what the terms of the denominator are divided by.

    Returns:
        (A,) losses.
    """
    logits = (rows.anchors / temperature) @ rows.keys.T
    if log_frequency is not None:
        logits = logits + log_frequency[rows.key_labels]
    positive = rows.same_class().scatter(1, rows.own[:, None], False)  # noqa: FBT003
    num_positives = positive.sum(dim=1)
    attraction = (logits * positive).sum(dim=1) / num_positives.clamp(min=1)
    repelled = logits if divisors is None else logits - divisors.log()
    repelled = repelled.scatter(1, rows.own[:, None], float("-inf"))
    losses = torch.logsumexp(repelled, dim=1) - attraction
    return torch.where(num_positives > 0, losses, 0.0)


@dataclass(frozen=True)
class ContrastOptions(LogitAdjustmentOptions):
    """What every loss with two contrastive views beside a classification shares.

    The loss is `classification_weight * LA(tau) + contrast_weight * contrast`.
    """

    tau: float = 1.0
    """How much of the log-prior is added to the logits of the classification."""
    temperature: float = 0.1
    """Similarities between the contrastive views are divided by it."""
    classification_weight: float = 2.0
    """Weight of the logit-adjusted cross-entropy, lambda in the papers."""
    contrast_weight: float = 1.0
    """Weight of the contrast, mu in the papers."""
    hidden_dim: int = option(512, page="all")
    """Width of the hidden layer of the projection."""
    output_dim: int = option(128, page="all")
    """Width of the projection."""
    compression: float = option(1.0, page="all")
    """Factor on the embeddings of weak classes in the contrast; 1: off."""
    compression_start: float = option(0.8, page="all")
    """Share of the epochs after which weak classes are compressed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"--temperature: {self.temperature} is not a positive number")
        for name in ("classification_weight", "contrast_weight", "compression"):
            if not 0 <= getattr(self, name) < float("inf"):
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: {getattr(self, name)} is negative or not finite")
        for name in ("hidden_dim", "output_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least 1")
        if not 0 <= self.compression_start <= 1:
            raise ConfigError(f"--compression-start: {self.compression_start} is outside [0, 1]")


@dataclass(frozen=True)
class SupervisedContrastiveOptions(ContrastOptions):
    """Supervised contrast beside logit adjustment; tau as in the ablation of arXiv:2312.01753."""

    tau: float = 1.3
    """How much of the log-prior is added to the logits of the classification."""


class SupervisedContrast(nn.Module):
    """`supervised_contrastive` as a module; class counts and prototypes are of no use to it.

    Args:
        counts_per_class: (C,) training images of each class.
        options: temperature.
    """

    uses_prototypes = False

    def __init__(self, counts_per_class: Tensor, options: ContrastOptions) -> None:
        super().__init__()
        self.temperature = options.temperature

    def forward(self, rows: LabelledRows, prototypes: Tensor | None) -> Tensor:
        """(A,) losses; `prototypes` are not read."""
        return supervised_contrastive(rows, temperature=self.temperature)
