"""NT-Xent that turns away from pairs it already tells apart."""

from __future__ import annotations

from torch import Tensor

from ssl_lt.losses.focal import focal_of
from ssl_lt.losses.nt_xent import PairKeys, nt_xent_per_anchor


def focal_nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float | Tensor,
    gamma: float,
    keys: PairKeys | None = None,
) -> Tensor:
    """Focal NT-Xent of each sample: `-(1 - p)^gamma log p`, the mean of its two anchors.

    `p` is the softmax probability of the positive in NT-Xent (arXiv:2002.05709, Eq. 1) and the
    weight that of the focal loss (arXiv:1708.02002, Eq. 4). `gamma = 0` is NT-Xent.

    Args:
        z1: (B, D) projections of view 1, any norm.
        z2: (B, D) projections of view 2.
        temperature: > 0.
        gamma: >= 0.
        keys: rows of all ranks, so that N processes equal one; None means the batch itself.

    Returns:
        (B,) losses.
    """
    rows = nt_xent_per_anchor(z1, z2, temperature=temperature, keys=keys)
    return focal_of(rows, gamma=gamma).view(2, -1).mean(dim=0)
