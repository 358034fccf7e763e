"""How often each class is drawn: what `--sampler` chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.core.types import Epoch
from ssl_lt.data.loading.class_sampler import power_rates
from ssl_lt.losses.effective_number import effective_number_weights

SamplerName = Literal[
    "instance", "class_balanced", "square_root", "progressive", "effective", "meta"
]


@dataclass(frozen=True)
class SamplerOptions:
    """Which images an epoch draws; deferred re-sampling is `effective` after 0.8 of the epochs."""

    sampler: SamplerName = "instance"
    """instance: every image once. Others draw as many images an epoch, by class: all classes alike;
    by the root of their counts; from instance to class_balanced over the epochs (all three
    arXiv:1910.09217); by inverse effective number; or learned (meta, arXiv:2007.10740)."""
    sampler_beta: float = option(0.9999, page="all")
    """Of the effective number; towards 1 the sampler becomes class_balanced."""
    sampler_after: float = option(0.0, page="all")
    """Share of the epochs before which every image comes once; 0.8 in the papers that defer."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value outside its range."""
        check_range(self, {"sampler_beta": "[0, 1)", "sampler_after": "[0, 1]"})
        if self.sampler == "meta" and self.sampler_after > 0:
            raise ConfigError("--sampler-after: --sampler meta learns from what it draws itself")

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        found = {} if self.sampler == "effective" else {"sampler-beta": "--sampler effective"}
        return found | ({"sampler-after": "--sampler"} if self.sampler == "instance" else {})


def progressive_rates(counts_per_class: Tensor, *, progress: float) -> Tensor:
    """`(1 - t/T) p_instance + (t/T) p_class` (Eq. 2 of arXiv:1910.09217).

    Args:
        counts_per_class: (C,) training images of each class.
        progress: `t/T`.

    Returns:
        (C,) float64.
    """
    instance = power_rates(counts_per_class, power=1.0)
    return torch.lerp(instance, power_rates(counts_per_class, power=0.0), progress)


def effective_rates(counts_per_class: Tensor, *, beta: float) -> Tensor:
    """`p_j` proportional to `n_j / E_{n_j}`: each image has weight `1 / E_n` of its class.

    The deferred re-sampling of arXiv:1906.07413, as its released code has it.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        beta: of the effective number.

    Returns:
        (C,) float64.

    Raises:
        ConfigError: a class without images.
    """
    counts = counts_per_class.to(torch.float64)
    rates = counts * effective_number_weights(counts, beta=beta)
    return rates / rates.sum()


def class_rates(counts_per_class: Tensor, options: SamplerOptions, epoch: Epoch) -> Tensor | None:
    """(C,) probability of each class in an epoch; None: every image comes once.

    The progressive sampler counts epochs from 0: the first one is drawn uniformly, and the last
    one is class-balanced up to 1 / T.

    Args:
        counts_per_class: (C,) training images of each class.
        options: any sampler but meta, whose rates are those of its task.
        epoch: which one.

    Raises:
        ConfigError: `effective` with a class without images.
    """
    if options.sampler == "instance" or epoch.number < options.sampler_after * epoch.total:
        return None
    if options.sampler == "progressive":
        return progressive_rates(counts_per_class, progress=epoch.number / epoch.total)
    if options.sampler == "effective":
        return effective_rates(counts_per_class, beta=options.sampler_beta)
    return power_rates(
        counts_per_class, power={"class_balanced": 0.0, "square_root": 0.5}[options.sampler]
    )
