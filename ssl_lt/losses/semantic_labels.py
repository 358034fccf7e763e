"""ConCutMix: what a mixed image looks like to the contrast has a say in its label.

The rule is that of the code which the authors of arXiv:2407.04911 released; the paper's own
equations could not be compared with it. With z the projection of the mixed image, c_j the
prototype of class j (both before they are normalised, and without gradient), y the label by area,
n_j the training images of class j:

    s_j = 1 / |z - c_j| for the K nearest prototypes, else 0; divided by their sum
    w   = omega log(sum_j n_j y_j) / sum_j log n_j
    y'  = w s + (1 - w) y

The classification loss of the mixed image is that of y'. `w` is small: with the released omega,
20/255, it is about 0.001 on CIFAR-100-LT, because the sum in its denominator is over all classes.

The release draws once a batch, with probability 0.5, whether the batch is mixed; a partner comes
from the whole training set, every class equally often. So do we, but each image draws for itself
(`ssl_lt.augment.mixing`). Labels of images that are not mixed stay. It starts to rectify in epoch
101 of 200, counted from 0; our `--rectify-after 0.5` starts in epoch 100. Its projections of the
mixed images share a batch norm with those of the contrastive views, and ours do, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.options import option
from ssl_lt.core.task import EpochAware
from ssl_lt.core.types import Epoch
from ssl_lt.losses.class_counts import positive_counts
from ssl_lt.losses.mixed_labels import MixedLabels

_SMALLEST = 1e-12


@dataclass(frozen=True)
class SemanticLabelOptions:
    """How ConCutMix rectifies labels; as released for CIFAR-100-LT (CIFAR-10-LT: 2/255, 3)."""

    rectify_weight: float = option(20 / 255, page="all")
    """Weight of the similarities in a mixed image's label, omega; 0: labels by area."""
    rectify_classes: int = option(30, page="all")
    """Classes that may share in a rectified label: those with the nearest prototypes."""
    rectify_after: float = option(0.5, page="all")
    """Share of the epochs before which labels are by area."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        check_range(self, {"rectify_weight": "[0, 1]", "rectify_after": "[0, 1]"})
        check_at_least(self, {"rectify_classes": 1})


def semantic_shares(features: Tensor, prototypes: Tensor, *, num_nearest: int) -> Tensor:
    """(B, C) `s`: inverse distances to the nearest prototypes, which sum to 1.

    Args:
        features: (B, P), `z`.
        prototypes: (C, P), `c`.
        num_nearest: `K`; all where there are fewer classes.
    """
    # By differences: products would lose the digits of small distances.
    distances = torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    closeness = 1 / distances.clamp(min=_SMALLEST)
    largest, classes = closeness.topk(min(num_nearest, len(prototypes)), dim=1)
    shares = F.normalize(largest, p=1, dim=1)
    return torch.zeros_like(closeness).scatter(1, classes, shares)


def semantic_weights(area_labels: Tensor, counts_per_class: Tensor, *, omega: Tensor) -> Tensor:
    """(B,) `w` of labels by area (B, C), `y`; 0 where every class has one image.

    Args:
        area_labels: (B, C), rows sum to 1.
        counts_per_class: (C,) >= 1, `n`.
        omega: scalar.
    """
    total = counts_per_class.log().sum().clamp(min=_SMALLEST)
    return omega * (area_labels @ counts_per_class).log() / total


class SemanticLabels(EpochAware):
    """`y'` of the images that are mixed, from some epoch on.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: weight, number of classes, and from when on.

    Raises:
        ConfigError: a class without images.
    """

    counts_per_class: Tensor
    omega: Tensor

    def __init__(self, counts_per_class: Tensor, options: SemanticLabelOptions) -> None:
        super().__init__()
        self.options = options
        # Both follow from the data and the epoch, so they are not saved with the weights.
        counts = positive_counts(counts_per_class)
        self.register_buffer("counts_per_class", counts, persistent=False)
        self.register_buffer("omega", torch.zeros(()), persistent=False)

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Labels by area at first, rectified ones from `rectify_after` on."""
        is_late = epoch.number >= self.options.rectify_after * epoch.total
        self.omega.fill_(self.options.rectify_weight if is_late else 0.0)

    def forward(self, labels: MixedLabels, features: Tensor, prototypes: Tensor) -> Tensor:
        """(B, C) labels whose rows sum to 1, without gradient.

        Args:
            labels: of the B images; one whose own share is 1 keeps its label.
            features: (B, P) projections, any norm.
            prototypes: (C, P), any norm.
        """
        area = labels.shares(len(prototypes)).to(features.dtype)
        if labels.own_share is None:
            return area
        with torch.no_grad():
            s = semantic_shares(features, prototypes, num_nearest=self.options.rectify_classes)
            counts = self.counts_per_class.to(features.dtype)
            w = semantic_weights(area, counts, omega=self.omega)
            w = torch.where(labels.own_share < 1, w, 0.0)[:, None]
            return w * s + (1 - w) * area
