"""Prototypical supervised contrast: rows against one learned prototype a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.losses.labelled_rows import LabelledRows


def prototypical_contrastive(
    z: Tensor, labels: Tensor, prototypes: Tensor, *, temperature: float
) -> Tensor:
    """Prototypical supervised contrastive loss of each row (PSC, arXiv:2103.14267).

    `L_i = -log( exp(z_i . p_y / t) / sum_{j != y} exp(z_i . p_j / t) )`. The row's own prototype
    is not in the denominator, so the loss may be negative, and a row that is told apart well is
    still pulled.

    Args:
        z: (A, D), unit norm.
        labels: (A,) int64.
        prototypes: (C, D), unit norm, row j of class j; C > 1.
        temperature: `t` > 0.

    Returns:
        (A,) losses.
    """
    logits = (z / temperature) @ prototypes.T
    own = labels[:, None]
    others = logits.scatter(1, own, float("-inf"))
    return torch.logsumexp(others, dim=1) - logits.gather(1, own)[:, 0]


class PrototypicalContrastiveLoss(nn.Module):
    """`prototypical_contrastive` as a module that holds the prototypes.

    They are learned with the network and normalised where they are used, so only their direction
    counts.

    Args:
        num_classes: C.
        dim: D.
        temperature: `t`.
    """

    uses_prototypes = False  # those that `ContrastTask` makes from the classifier

    def __init__(self, num_classes: int, dim: int, *, temperature: float) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(F.normalize(torch.randn(num_classes, dim), dim=1))
        self.temperature = temperature

    def forward(self, rows: LabelledRows, prototypes: Tensor | None) -> Tensor:
        """(A,) losses; of the rows only anchors and their labels are read."""
        unit = F.normalize(self.prototypes, dim=1).to(rows.anchors.dtype)
        return prototypical_contrastive(
            rows.anchors, rows.labels, unit, temperature=self.temperature
        )
