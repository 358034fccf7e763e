"""Geometric harmonization (GH, arXiv:2310.17622): each view predicts the cluster of the other.

Clusters are fixed, maximally separated directions (`simplex_etf`). Sinkhorn assigns the batch to
them in the shares that they have now (`class_prior`).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cluster_logits(z: Tensor, structure: Tensor) -> Tensor:
    """Logits t = z M^T / |z M^T|: agreement with each direction, of unit norm over the clusters.

    The paper's softmax(M^T z / gamma) has no such norm; the release divides by it, and its
    temperature and epsilon suit that, so we follow the release. z itself is not normalised, but
    by the same norm its length does not matter.

    Args:
        z: (B, d) projections, any norm.
        structure: (K, d) directions M.

    Returns:
        (B, K).
    """
    return F.normalize(z @ structure.T, dim=1)


def harmonization(t1: Tensor, t2: Tensor, q1: Tensor, q2: Tensor, *, temperature: float) -> Tensor:
    """Swapped prediction, -sum_k q1 log softmax(t2 / gamma) - sum_k q2 log softmax(t1 / gamma).

    The sum of both directions without a half, as in the release.

    Args:
        t1: (B, K) logits of view 1.
        t2: (B, K) logits of view 2.
        q1: (B, K) assignment of view 1, a constant.
        q2: (B, K) assignment of view 2, a constant.
        temperature: gamma.

    Returns:
        (B,) loss a sample.
    """
    first = F.log_softmax(t1 / temperature, dim=1)
    second = F.log_softmax(t2 / temperature, dim=1)
    return -(q1.detach() * second + q2.detach() * first).sum(dim=1)
