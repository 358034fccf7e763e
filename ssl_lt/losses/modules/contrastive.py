"""Contrasts of two views: with labels as `finetune.py` knows them, and NT-Xent without.

Several processes compare their rows with those of all of them, with gradient, as `finetune.py`
does: each must have as many rows, so drop an incomplete last batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.checks import check_range
from ssl_lt.losses.balanced_contrastive import BalancedContrast, BalancedContrastiveOptions
from ssl_lt.losses.labelled_rows import gathered_rows
from ssl_lt.losses.modules.inputs import (
    Counts,
    Reduction,
    checked_counts,
    checked_labels,
    checked_pair,
    checked_prototypes,
    checked_reduction,
    reduced,
)
from ssl_lt.losses.nt_xent import nt_xent, pair_keys
from ssl_lt.losses.rebalanced_contrastive import RebalancedContrast, RebalancedOptions
from ssl_lt.losses.supervised_contrastive import ContrastOptions, SupervisedContrast

_NO_COUNTS = torch.empty(0)


class NTXentLoss(nn.Module):
    """`-log( exp(s(i, p)/t) / sum_{k != i} exp(s(i, k)/t) )` (Eq. 1 of arXiv:2002.05709).

    `s` is the cosine, `p` the other view of the same sample, and k runs over both views of all
    samples.

    Args:
        temperature: `t` > 0.
        reduction: "mean", "sum" or "none": over samples, each the mean of its two views.

    Raises:
        ConfigError: `temperature` not positive, or an unknown reduction.
    """

    def __init__(self, temperature: float, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.temperature, self.reduction = temperature, checked_reduction(reduction)
        check_range(self, {"temperature": "(0, inf)"})

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """The loss.

        Args:
            z1: (B, D) projections of view 1, any norm.
            z2: (B, D) projections of view 2.

        Returns:
            A scalar, or (B,) where nothing is reduced.

        Raises:
            ConfigError: other shapes or types.
        """
        z1, z2 = checked_pair(z1, z2)
        with torch.autocast(z1.device.type, enabled=False):
            losses = nt_xent(z1, z2, temperature=self.temperature, keys=pair_keys(z1, z2))
        return reduced(losses, self.reduction)


class LabelledContrastiveLoss(nn.Module):
    """What the contrasts with labels share; a class of its own for each of them follows.

    Computed in fp32, outside autocast, or in float64 where the projections are. `finetune.py` adds
    a logit-adjusted cross-entropy of a third view; so should a loop of one's own.

    Args:
        per_anchor: `LabelledRows`, (C, D) prototypes or None -> (A,): what `finetune.py` trains
            with.
        num_classes: C of the counts; None: any number of classes.
        reduction: "mean" or "sum" over the samples, each the mean of its two views, or "none".

    Raises:
        ConfigError: an unknown reduction.
    """

    def __init__(
        self, per_anchor: nn.Module, *, num_classes: int | None, reduction: Reduction
    ) -> None:
        super().__init__()
        self.per_anchor, self.num_classes = per_anchor, num_classes
        self.reduction = checked_reduction(reduction)

    def _of(
        self, z1: Tensor, z2: Tensor, labels: Tensor, prototypes: Tensor | None = None
    ) -> Tensor:
        z1, z2 = checked_pair(z1, z2)
        num_classes = self.num_classes
        with torch.autocast(z1.device.type, enabled=False):
            if prototypes is not None:
                width = z1.shape[1]
                prototypes = checked_prototypes(prototypes, width, num_classes=num_classes)
                prototypes, num_classes = F.normalize(prototypes, dim=1), len(prototypes)
            labels = checked_labels(labels, len(z1), num_classes=num_classes)
            rows = gathered_rows(F.normalize(torch.cat([z1, z2]), dim=1), labels)
            losses: Tensor = self.per_anchor(rows, prototypes)
        return reduced(losses.view(2, -1).mean(dim=0), self.reduction)


class SupervisedContrastiveLoss(LabelledContrastiveLoss):
    """`-1/|P_i| sum_{p in P_i} log( exp(z_i.z_p/t) / sum_{k != i} exp(z_i.z_k/t) )`.

    L_out, Eq. 2 of arXiv:2004.11362, without its factor on the temperature (`--loss scl`). `P_i`
    are the other views of the class; an anchor without any costs 0.

    Args:
        temperature: `t` > 0.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: `temperature` not positive.
    """

    def __init__(self, temperature: float = 0.1, *, reduction: Reduction = "mean") -> None:
        per_anchor = SupervisedContrast(_NO_COUNTS, ContrastOptions(temperature=temperature))
        super().__init__(per_anchor, num_classes=None, reduction=reduction)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor) -> Tensor:
        """The loss.

        Args:
            z1: (B, D) projections of view 1, any norm.
            z2: (B, D) projections of view 2.
            labels: (B,) integers, 0 or more.

        Returns:
            A scalar, or (B,) where nothing is reduced.

        Raises:
            ConfigError: other shapes or types, or a negative label.
        """
        return self._of(z1, z2, labels)


class BalancedContrastiveLoss(LabelledContrastiveLoss):
    """Balanced contrastive learning (CVPR 2022, arXiv:2207.09052; `--loss bcl`).

    `-1/|P_i| sum_{p in P_i} log( exp(z_i.z_p/t) / sum_j 1/d_ij sum_{k in B_j + c_j, k != i}
    exp(z_i.z_k/t) )`: each class j of the denominator is averaged over its `d_ij` rows, its
    prototype `c_j` among them, and the prototype of the anchor's class is a positive. Training
    counts play no part.

    Args:
        temperature: `t` > 0.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: `temperature` not positive.
    """

    def __init__(self, temperature: float = 0.1, *, reduction: Reduction = "mean") -> None:
        options = BalancedContrastiveOptions(temperature=temperature)
        super().__init__(
            BalancedContrast(_NO_COUNTS, options), num_classes=None, reduction=reduction
        )

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor, prototypes: Tensor) -> Tensor:
        """The loss.

        Args:
            z1: (B, D) projections of view 1, any norm.
            z2: (B, D) projections of view 2.
            labels: (B,) integers in 0 ... C-1.
            prototypes: (C, D), any norm, row j of class j: in the paper and in `finetune.py` a
                projection of the classifier's weights.

        Returns:
            A scalar, or (B,) where nothing is reduced.

        Raises:
            ConfigError: other shapes or types, or a label outside the classes.
        """
        return self._of(z1, z2, labels, prototypes)


class RebalancedContrastiveLoss(LabelledContrastiveLoss):
    """Rebalanced contrastive learning (RCL, arXiv:2312.01753; `--loss rcl`).

    `-1/|P_i| sum_{p in P_i} log( n_y exp(z_i.z_p/t) / sum_{k != i} n_{y_k} exp(z_i.z_k/t) )`
    (Eq. 4). With `class_average` and prototypes it is `--loss bcl_rcl` (Eq. 5).

    Args:
        counts: (C,) training images `n` of each class, none of them 0.
        temperature: `t` > 0.
        frequency_power: counts are taken to this power; 0 gives the supervised contrast.
        class_average: average over the rows of a class in the denominator instead of summing.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: counts that are no numbers above 0, `temperature` not positive, or
            `frequency_power` not finite.
    """

    def __init__(
        self,
        counts: Counts,
        temperature: float = 0.1,
        *,
        frequency_power: float = 1.0,
        class_average: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        found = checked_counts(counts)
        options = RebalancedOptions(
            temperature=temperature, frequency_power=frequency_power, class_average=class_average
        )
        check_range(options, {"frequency_power": "(-inf, inf)"})
        per_anchor = RebalancedContrast(found, options)
        super().__init__(per_anchor, num_classes=len(found), reduction=reduction)

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor, prototypes: Tensor | None = None
    ) -> Tensor:
        """The loss.

        Args:
            z1: (B, D) projections of view 1, any norm.
            z2: (B, D) projections of view 2.
            labels: (B,) integers in 0 ... C-1.
            prototypes: (C, D), any norm, row j of class j; None: there are none.

        Returns:
            A scalar, or (B,) where nothing is reduced.

        Raises:
            ConfigError: other shapes or types, or a label outside the classes.
        """
        return self._of(z1, z2, labels, prototypes)
