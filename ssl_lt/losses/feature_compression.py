"""Feature compression: embeddings of some classes are made longer or shorter.

A factor must come after normalisation, which would undo it. In a contrast it then acts like a
temperature of its class: rows of half the length repel and attract as at twice the temperature.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ssl_lt.losses.labelled_rows import LabelledRows


def compressed(rows: LabelledRows, factors: Tensor) -> LabelledRows:
    """Rows times the factor of their class (section 3.3.2 of arXiv:2312.01753).

    Prototypes that are added afterwards keep their length; those added before are compressed too.

    Args:
        rows: anchors and keys of unit norm.
        factors: (C,); ones change nothing.
    """
    return replace(
        rows,
        anchors=rows.anchors * factors[rows.labels, None],
        keys=rows.keys * factors[rows.key_labels, None],
    )


def factors_of_weak_classes(accuracy_per_class: Tensor, *, factor: float) -> Tensor:
    """(C,): `factor` for classes below the mean accuracy, 1 for the others.

    The paper compares validation accuracies with a threshold whose value its text has lost, and
    finds 0.005 best. Taken literally that all but removes those classes from the contrast: their
    similarities become 0 and their gradients 0.005 of what they were.

    Args:
        accuracy_per_class: (C,) in [0, 1]; NaN: of a class nothing is known, so it is not weak.
        factor: of the weak classes.
    """
    weak = accuracy_per_class < accuracy_per_class.nanmean()
    return torch.where(weak, factor, 1.0)
