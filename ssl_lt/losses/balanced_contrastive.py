"""Balanced contrast: every class weighs the same in the denominator, and none is missing.

This is Balanced Contrastive Learning (CVPR 2022, arXiv:2207.09052), in the command line
`finetune.py --loss bcl`; Boosted Contrastive Learning is another method.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.supervised_contrastive import ContrastOptions, supervised_contrastive


def class_average_divisors(rows: LabelledRows, *, num_classes: int) -> Tensor:
    """(A, K): how many terms the class of each key has in each anchor's denominator.

    With one prototype a class that is `|B_j| + 1`, and `|B_y|` for the anchor's own class, from
    which the anchor itself is missing. So does the released code. The paper writes
    `|B_j| + 1` for all classes, which is no average where the anchor is left out.

    Args:
        rows: keys of all ranks; with the prototypes, where there are any.
        num_classes: C.
    """
    counts = rows.anchors.new_zeros(num_classes)
    counts = counts.index_add(0, rows.key_labels, counts.new_ones(len(rows.key_labels)))
    # 0 only where an anchor is alone in its class, and then that term is masked.
    return (counts[rows.key_labels] - rows.same_class().to(counts.dtype)).clamp(min=1)


def balanced_contrastive(rows: LabelledRows, prototypes: Tensor, *, temperature: float) -> Tensor:
    """Balanced contrastive loss of each anchor (class averaging and class complement).

    `L_i = -1/|P_i| sum_{p in P_i} log( exp(z_i.z_p/t) / sum_j 1/d_ij sum_{k in B_j + c_j, k != i}
    exp(z_i.z_k/t) )`, where `B_j` are the rows of class j, `c_j` is its prototype, the positives
    `P_i` are the anchor's class without the anchor and with the prototype, and `d_ij` counts the
    terms of the inner sum (see `class_average_divisors`). Training frequencies play no part.

    Args:
        rows: anchors and keys.
        prototypes: (C, D), row j of class j; keys only.
        temperature: `t` > 0.

    Returns:
        (A,) losses.
    """
    rows = rows.with_prototypes(prototypes)
    divisors = class_average_divisors(rows, num_classes=len(prototypes))
    return supervised_contrastive(rows, temperature=temperature, divisors=divisors)


@dataclass(frozen=True)
class BalancedContrastiveOptions(ContrastOptions):
    """Weights of arXiv:2207.09052 for CIFAR; on ImageNet-LT 1, 0.35 and temperature 0.07."""

    contrast_weight: float = 0.6
    """Weight of the contrast, mu in the papers."""


class BalancedContrast(nn.Module):
    """`balanced_contrastive` as a module; the class counts are of no use to it.

    Args:
        counts_per_class: (C,) training images of each class.
        options: temperature.
    """

    uses_prototypes = True

    def __init__(self, counts_per_class: Tensor, options: BalancedContrastiveOptions) -> None:
        super().__init__()
        self.temperature = options.temperature

    def forward(self, rows: LabelledRows, prototypes: Tensor | None) -> Tensor:
        """(A,) losses with (C, D) prototypes."""
        assert prototypes is not None, "the task makes prototypes where `uses_prototypes`"
        return balanced_contrastive(rows, prototypes, temperature=self.temperature)
