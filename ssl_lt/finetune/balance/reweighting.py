"""Class weights on a classification loss, from the first epoch or a later one on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_lt.core.checks import check_range
from ssl_lt.core.options import option
from ssl_lt.core.processes.distributed import mean_over_ranks
from ssl_lt.core.task import EpochAware
from ssl_lt.core.types import Epoch
from ssl_lt.losses.effective_number import effective_number_weights
from ssl_lt.losses.inverse_frequency import inverse_frequency_weights


@dataclass(frozen=True)
class ReweightOptions:
    """How much a class counts; deferred re-weighting is `effective` after 0.8 of the epochs."""

    reweight: Literal["none", "inverse", "effective", "adrw"] = "none"
    """Class weights on the classification loss: inverse frequency, inverse effective number
    (arXiv:1901.05555), or ADRW's power of the inverse frequency (arXiv:2310.04752)."""
    reweight_beta: float = option(0.9999, page="all")
    """Of the effective number; towards 1 it becomes the number of images."""
    reweight_power: float = option(0.25, page="all")
    """ADRW's nu: weights are the inverse frequency to this power."""
    reweight_after: float = option(0.0, page="all")
    """Share of the epochs before which all classes weigh the same; 0.8 in the papers that defer."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        ranges = {"reweight_beta": "[0, 1)", "reweight_power": "[0, inf)"}
        check_range(self, {**ranges, "reweight_after": "[0, 1]"})

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        if self.reweight == "none":
            return {"reweight-": "--reweight"}
        found = {"reweight-beta": "--reweight effective", "reweight-power": "--reweight adrw"}
        return {flag: choice for flag, choice in found.items() if self.reweight not in choice}


def class_weights(counts_per_class: Tensor, options: ReweightOptions) -> Tensor:
    """(C,) weights that sum to C.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0 if weights differ.
        options: which weights.

    Raises:
        ConfigError: a class without images.
    """
    if options.reweight == "effective":
        return effective_number_weights(counts_per_class, beta=options.reweight_beta)
    power = {"none": 0.0, "inverse": 1.0, "adrw": options.reweight_power}[options.reweight]
    return inverse_frequency_weights(counts_per_class, power=power)


class ReweightedLoss(EpochAware):
    """`w_{y_i} l_i / mean_k w_{y_k}` of any classification loss `l`.

    Note: the mean over the batch is `sum_i w_i l_i / sum_i w_i`, as in the released codes of LDAM
    (arXiv:1906.07413), VS (arXiv:2103.01550) and ADRW, whose recipes use these weights; so the size
    of the loss, and with it the step, stays when the weights set in. The code of the effective
    number divides by the batch size instead, which with its weights on CIFAR-10-LT (imbalance 100)
    makes the loss about six times smaller. The sum of the weights is that of the batch over
    all ranks.

    Args:
        loss: (logits, labels) -> (B,).
        counts_per_class: (C,) training images of each class, none of them 0.
        options: which weights, and from when on.

    Raises:
        ConfigError: a class without images.
    """

    class_weights: Tensor
    current: Tensor

    def __init__(self, loss: nn.Module, counts_per_class: Tensor, options: ReweightOptions) -> None:
        super().__init__()
        self.loss, self.after = loss, options.reweight_after
        weights = class_weights(counts_per_class, options)
        # Both follow from the data and the epoch, so they are not saved with the weights.
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("current", torch.ones_like(weights), persistent=False)

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Ones at first, the class weights from `after` on."""
        if epoch.number >= self.after * epoch.total:
            self.current.copy_(self.class_weights)
        else:
            self.current.fill_(1.0)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits; their mean over all ranks is the weighted mean."""
        losses: Tensor = self.loss(logits, labels)
        weights = self.current[labels]
        return losses * (weights / mean_over_ranks(weights.mean()))
