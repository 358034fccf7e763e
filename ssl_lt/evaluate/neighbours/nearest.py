"""The training images that are nearest to a few test images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_PART_ROWS = 8192


def nearest_rows(bank: Tensor, queries: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    """Cosine similarity to the k nearest rows of a bank, and which they are.

    Args:
        bank: (N, D), k at most N; read by parts, so it may be mapped from a file.
        queries: (Q, D), so few that (Q, N) similarities fit into memory.
        k: neighbours.

    Returns:
        (Q, k) similarities, descending, and (Q, k) int64 rows of the bank.
    """
    asked = F.normalize(queries.float(), dim=1)
    parts = [asked @ F.normalize(part.float(), dim=1).T for part in torch.split(bank, _PART_ROWS)]
    nearest, rows = torch.cat(parts, dim=1).topk(k, dim=1)
    return nearest, rows
