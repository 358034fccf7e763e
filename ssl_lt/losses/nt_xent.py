"""NT-Xent: each view of a sample must find the other among all views of all samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.processes.distributed import gather_rows, own_rows


@dataclass(frozen=True)
class PairKeys:
    """What the anchors are compared with, where that is more than their own batch.

    Attributes:
        z1, z2: (M, D) projections of the two views of all samples, any norm.
        own: (B,) int64, the row of `z1` and `z2` that holds each anchor itself.
    """

    z1: Tensor
    z2: Tensor
    own: Tensor


def pair_keys(z1: Tensor, z2: Tensor) -> PairKeys:
    """Projections of all ranks, with gradient, for anchors (B, D) of this rank."""
    both = gather_rows(torch.cat([z1, z2], dim=1))
    width = z1.shape[1]
    own = own_rows(z1.shape[0], device=z1.device)
    return PairKeys(both[:, :width], both[:, width:], own)


def nt_xent_per_anchor(
    z1: Tensor, z2: Tensor, *, temperature: float | Tensor, keys: PairKeys | None = None
) -> Tensor:
    """NT-Xent of each of the 2B anchors (Eq. 1 of arXiv:2002.05709).

    `-log( exp(s(i, p)/t) / sum_{k != i} exp(s(i, k)/t) )`, where `s` is the cosine, `p` the other
    view of the same sample, and `k` runs over the 2M views: the positive and 2M - 2 negatives.
    Taken as a log-softmax, so it is finite at any temperature.

    Args:
        z1: (B, D) projections of view 1, any norm.
        z2: (B, D) projections of view 2.
        temperature: `t` > 0, or a tensor of no dimension.
        keys: rows to compare with; None means the batch itself.

    Returns:
        (2B,): the anchors of view 1, then those of view 2.
    """
    anchors = F.normalize(torch.cat([z1, z2]), dim=1)
    if keys is None:
        others, num_keys = anchors, z1.shape[0]
        own = torch.arange(num_keys, device=z1.device)
    else:
        others, num_keys = F.normalize(torch.cat([keys.z1, keys.z2]), dim=1), keys.z1.shape[0]
        own = keys.own
    # Scaling (2B, D) anchors is cheaper than dividing the (2B, 2M) similarities.
    logits = (anchors / temperature) @ others.T
    self_column = torch.cat([own, own + num_keys])
    positive_column = torch.cat([own + num_keys, own])
    logits = logits.scatter_(1, self_column[:, None], float("-inf"))
    return F.cross_entropy(logits, positive_column, reduction="none")


def nt_xent(
    z1: Tensor, z2: Tensor, *, temperature: float | Tensor, keys: PairKeys | None = None
) -> Tensor:
    """NT-Xent of each sample: the mean of its two anchors; see `nt_xent_per_anchor`.

    Args:
        z1: (B, D) projections of view 1, any norm.
        z2: (B, D) projections of view 2.
        temperature: `t` > 0, or a tensor of no dimension.
        keys: rows of all ranks, so that N processes equal one; None means the batch itself.

    Returns:
        (B,), whose mean is the published loss.
    """
    rows = nt_xent_per_anchor(z1, z2, temperature=temperature, keys=keys)
    return rows.view(2, -1).mean(dim=0)
