"""Distributional robustness: each class's rows closer to its centroid than any other row is.

The loss bounds the worst case over all distributions of a class within a radius of the empirical
one (DRO-LT, arXiv:2104.03066).

What the paper and the released code do differently, and what we do: the code gives each row the
radius of another row, because it lists rows by class and radii by place in the batch; we give a
row the radius of its own class, as the paper does (with equal radii both are the same). Radii are
learned, and as released nothing keeps them above 0: the loss grows with them, so they shrink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.logit_adjustment import LogitAdjustmentOptions

ClassWeights = Literal["none", "frequency"]


def distributional_robustness(
    rows: LabelledRows,
    centroids: Tensor,
    radii: Tensor,
    *,
    temperature: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Robustness loss of each anchor; their mean over all keys as anchors is the batch's loss.

    `L = sum_c w_c / |B_c| sum_{i in B_c} [ (d_ci + eps_c)/T
    + log sum_k exp(-(d_ck + eps_c [y_k = c])/T) ]`, with `d_ci = |mu_c - x_i|`, sums over the rows
    of all ranks, and `w_c = 1 / (classes in the batch)`. An anchor has its summand times the
    number of keys, so that ranks may average.

    Args:
        rows: features as anchors and keys, any norm.
        centroids: (C, D), `mu`.
        radii: (C,), `eps`.
        temperature: `T` > 0.
        class_weights: (C,); then `w_c` is its share of all classes' weights, absent ones included.

    Returns:
        (A,) losses.
    """
    num_classes, num_keys = len(centroids), len(rows.keys)
    # Not as a matrix product, which loses the small distances; at distance 0 the gradient is 0.
    distances = torch.cdist(
        centroids, rows.keys, compute_mode="donot_use_mm_for_euclid_dist"
    )  # (C, K)
    classes = torch.arange(num_classes, device=rows.key_labels.device)
    own_class = classes[:, None] == rows.key_labels
    logits = -(distances + radii[:, None] * own_class) / temperature
    sizes = own_class.sum(dim=1)
    if class_weights is None:
        present = (sizes > 0).to(logits.dtype)
        shares = present / present.sum()
    else:
        shares = class_weights / class_weights.sum()
    scales = num_keys * shares / sizes.clamp(min=1)
    losses = logits.logsumexp(dim=1)[rows.labels] - logits[rows.labels, rows.own]
    return scales[rows.labels] * losses


def frequency_weights(counts_per_class: Tensor) -> Tensor:
    """(C,) float32 `n_c / n_max`: what the released code calls long-tailed weights."""
    counts = counts_per_class.to(torch.float32)
    return counts / counts.max()


@dataclass(frozen=True)
class DistributionalRobustnessOptions(LogitAdjustmentOptions):
    """DRO-LT beside a classification.

    The loss is `LA(tau) + robust_weight * DRO`.
    """

    tau: float = 1.0
    """How much of the log-prior is added to the logits of the classification; 0: cross-entropy."""
    robust_temperature: float = 1.0
    """Distances to the centroids are divided by it."""
    robust_weight: float = 1.0
    """Weight of the robustness term."""
    robust_after: float = 0.5
    """Share of the epochs that pass without it: it starts from features that tell classes apart."""
    radius: float = 1.0
    """Of each class at the start; it is learned."""
    class_weights: ClassWeights = "none"
    """Of the classification: frequency is n_c / n_max as released, where batches are
    class-balanced and this undoes it."""
    robust_class_weights: ClassWeights = "none"
    """The same of the robustness term."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.robust_temperature < float("inf"):
            raise ConfigError(f"--robust-temperature: {self.robust_temperature} is not positive")
        for name in ("robust_weight", "radius"):
            if not 0 <= getattr(self, name) < float("inf"):
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: {getattr(self, name)} is negative or not finite")
        if not 0 <= self.robust_after <= 1:
            raise ConfigError(f"--robust-after: {self.robust_after} is outside [0, 1]")
        for name in ("class_weights", "robust_class_weights"):
            if getattr(self, name) not in get_args(ClassWeights):
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: {getattr(self, name)!r}, must be none or frequency")
