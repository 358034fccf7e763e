"""Corrections of a trained classifier's answers by class prior or cost; nothing is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError, DataError


def post_hoc_adjusted(logits: Tensor, log_prior: Tensor, *, tau: float) -> Tensor:
    """Logits without the prior they were trained under: `f - tau log pi` (arXiv:2007.07314, Eq. 9).

    The authors' code subtracts `log(pi^tau + 1e-12)`, which keeps a class without images finite;
    here such a class is refused where its prior is made, and the equation is left exact.

    Args:
        logits: (N, C), `f`.
        log_prior: (C,), `log pi`.
        tau: strength; 0 changes nothing, 1 is Fisher-consistent for the balanced error where `f`
            was trained by plain cross-entropy.

    Returns:
        (N, C).
    """
    return logits - tau * log_prior


def threshold_moved(probabilities: Tensor, costs: Tensor) -> Tensor:
    """Cost-sensitive threshold moving (Zhou and Liu 2006): `p_k sum_k' C[k, k']`, renormalised.

    Row sums that are `pi_k^-tau` make it post-hoc logit adjustment. It is not the decision of
    least expected cost, which takes each `C[k, k']` by itself.

    Args:
        probabilities: (N, C), `p`.
        costs: (C, C): `C[k, k']` of taking an image of class k for class k'.

    Returns:
        (N, C) that sum to 1.

    Raises:
        DataError: as `check_costs` says.
    """
    check_costs(costs, num_classes=probabilities.shape[1])
    moved = probabilities * costs.sum(dim=1)
    return moved / moved.sum(dim=1, keepdim=True)


def inverse_frequency_costs(log_prior: Tensor, *, tau: float) -> Tensor:
    """(C, C) costs whose row k sums to `pi_k^-tau`, shared out evenly among the wrong classes."""
    num_classes = len(log_prior)
    wrong = 1 - torch.eye(num_classes, dtype=log_prior.dtype, device=log_prior.device)
    return torch.exp(-tau * log_prior)[:, None] * wrong / max(num_classes - 1, 1)


def check_costs(costs: Tensor, *, num_classes: int) -> None:
    """Raises DataError for what is no cost matrix of `num_classes` classes; it is one line."""
    if costs.shape != (num_classes, num_classes):
        shape = " x ".join(map(str, costs.shape))
        raise DataError(
            f"costs: {shape} numbers for {num_classes} classes; one row and column each"
        )
    bad = torch.nonzero(~(costs.isfinite() & (costs >= 0))).tolist()
    if bad:
        row, column = bad[0]
        value = float(costs[row, column])
        raise DataError(f"costs: {value:g} in row {row}, column {column}; must be 0 or more")
    empty = torch.nonzero(costs.sum(dim=1) == 0).flatten().tolist()
    if empty:
        raise DataError(f"costs: row {empty[0]} sums to 0: no mistake about this class would count")


def plug_in_predictions(probabilities: Tensor, counts_per_class: Tensor) -> Tensor:
    """Two classes: the rarer error weighs as much as the other (Menon et al. 2013, Algorithm 1).

    `sign(eta(x) - p)`, where `eta` is the estimated probability of class 1 and `p` the share of
    class 1 among the training images: consistent for (TPR + TNR) / 2, that is, balanced accuracy.

    Args:
        probabilities: (N, 2) by a proper loss, such as logistic regression.
        counts_per_class: (2,) training images.

    Returns:
        (N,) int64 classes.

    Raises:
        ConfigError: another number of classes.
    """
    num_classes = probabilities.shape[1]
    if num_classes != 2:
        raise ConfigError(f"plug-in: a threshold between two classes, not {num_classes}")
    positive = counts_per_class[1] / counts_per_class.sum()
    return (probabilities[:, 1] > positive).long()
