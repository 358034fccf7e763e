"""Parametric contrast: the classifier's rows are keys of a supervised contrast, PaCo and GPaCo.

A head class has many keys in a batch and a tail class almost none, so a supervised contrast pulls
on head classes the most. Here each anchor's own centre weighs `beta` and each key of its class
`alpha` far less, which evens that out (arXiv:2107.12028, arXiv:2209.12400).

The released code adds 1e-9 to the priors and 1e-12 to the denominator; we need neither, because a
class without images is refused and the sums are taken in logarithms. Where the released queue
starts with random keys of random classes, which attract and repel until they are overwritten,
slots of ours are empty and count for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.logit_adjustment import class_log_prior

EMPTY = -1
"""The class of a key that is not there yet."""


def smoothed(one_hot: Tensor, *, smoothing: float) -> Tensor:
    """(A, C) `1 - e` at the label and `e / (C - 1)` at each other class.

    Args:
        one_hot: (A, C) floating, C > 1.
        smoothing: `e`.
    """
    return (1 - smoothing) * one_hot + smoothing / (one_hot.shape[1] - 1) * (1 - one_hot)


def parametric_contrastive(
    centres: Tensor,
    targets: Tensor,
    rows: LabelledRows,
    *,
    temperature: float,
    alpha: float,
    gamma: float,
) -> Tensor:
    """Parametric contrastive loss of each anchor (PaCo, arXiv:2107.12028; GPaCo, arXiv:2209.12400).

    `L_i = -sum_p m_ip log( exp(a_ip) / D_i ) / sum_p m_ip`, where p runs over the C centres, whose
    weights `m` are the targets, and over the keys of the anchor's class, whose weight is `alpha`;
    `D_i = sum_j exp(a_ij) + gamma sum_{k != i} exp(a_ik)` runs over all centres j and all keys k,
    with `a_ik = q_i . z_k / T`. Without keys it is the cross-entropy of the centres.

    Args:
        centres: (A, C), `a_ij` of the centres.
        targets: (A, C) >= 0, no row of zeros.
        rows: anchors and keys; a key of class `EMPTY` is neither attracted nor repelled.
        temperature: `T` > 0.
        alpha: weight of a key of the anchor's class among what attracts.
        gamma: weight of the keys in the denominator.

    Returns:
        (A,) losses.
    """
    similarities = (rows.anchors / temperature) @ rows.keys.T
    scores = torch.cat([centres, similarities], dim=1)
    is_key = (rows.key_labels != EMPTY).to(scores.dtype).expand_as(similarities)
    is_key = is_key.scatter(1, rows.own[:, None], 0.0)
    m = torch.cat([targets, alpha * is_key * rows.same_class()], dim=1)
    in_denominator = torch.cat([torch.ones_like(centres), gamma * is_key], dim=1)
    log_denominator = torch.logsumexp(scores + in_denominator.log(), dim=1)
    return log_denominator - (m * scores).sum(dim=1) / m.sum(dim=1)


@dataclass(frozen=True)
class ParametricContrastiveOptions:
    """What PaCo and GPaCo share; the constants of the released code for CIFAR-100-LT."""

    alpha: float = 0.01
    """Weight of a key of the anchor's class among what attracts the anchor."""
    beta: float = 1.0
    """Weight of the centres among what attracts the anchor."""
    gamma: float = 1.0
    """Weight of the keys among what repels the anchor, where centres weigh 1."""
    supt: float = 1.0
    """The logits, plus the log-prior, are divided by it."""
    temperature: float = 0.05
    """Similarities between projections are divided by it."""
    queue_size: int = 1024
    """Keys of earlier batches that are compared with; any number."""
    hidden_dim: int | None = None
    """Width of the hidden layer of the projection; none: that of the features."""
    output_dim: int = 32
    """Width of the projection."""

    def __post_init__(self) -> None:
        for name in ("beta", "supt", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"--{name}: {getattr(self, name)} is not a positive number")
        for name in ("alpha", "gamma"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"--{name}: {getattr(self, name)} is negative or not finite")
        for name in ("queue_size", "hidden_dim", "output_dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: {value}, must be at least 1")


@dataclass(frozen=True)
class MomentumContrastiveOptions(ParametricContrastiveOptions):
    """PaCo: keys come from a slowly moving copy of the network."""

    key_momentum: float = 0.999
    """Share of the key network that stays in each step; the rest is the trained network's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.key_momentum < 1:
            raise ConfigError(f"--key-momentum: {self.key_momentum} is outside [0, 1)")


@dataclass(frozen=True)
class SmoothedContrastiveOptions(ParametricContrastiveOptions):
    """GPaCo: keys come from the network itself, and targets are smoothed."""

    smoothing: float = 0.1
    """Share of the target that goes to the other classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"--smoothing: {self.smoothing} is outside [0, 1)")


class ParametricContrastiveLoss(nn.Module):
    """`parametric_contrastive` as a module; its centres are `(f + log pi) / supt`.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: weights and temperatures.
        smoothing: of the targets.

    Raises:
        ConfigError: a class without images.
    """

    log_prior: Tensor

    def __init__(
        self, counts_per_class: Tensor, options: ParametricContrastiveOptions, *, smoothing: float
    ) -> None:
        super().__init__()
        self.options, self.smoothing = options, smoothing
        # Follows from the data, so it is not saved with the weights.
        self.register_buffer("log_prior", class_log_prior(counts_per_class), persistent=False)

    def forward(self, logits: Tensor, rows: LabelledRows) -> Tensor:
        """(A,) losses of (A, C) logits `f` and the projections of the same samples."""
        options = self.options
        one_hot = F.one_hot(rows.labels, len(self.log_prior)).to(logits.dtype)
        return parametric_contrastive(
            (logits + self.log_prior) / options.supt,
            options.beta * smoothed(one_hot, smoothing=self.smoothing),
            rows,
            temperature=options.temperature,
            alpha=options.alpha,
            gamma=options.gamma,
        )
