"""The training images that are nearest to a few test images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def nearest_rows(bank: Tensor, queries: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    """Cosine similarity to the k nearest rows of a bank, and which they are.

    Args:
        bank: (N, D), k at most N.
        queries: (Q, D), so few that (Q, N) similarities fit into memory.
        k: neighbours.

    Returns:
        (Q, k) similarities, descending, and (Q, k) int64 rows of the bank.
    """
    similarity = F.normalize(queries.float(), dim=1) @ F.normalize(bank.float(), dim=1).T
    nearest, rows = similarity.topk(k, dim=1)
    return nearest, rows
