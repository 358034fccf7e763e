"""Optimisers: which, with what, on which parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option

LrScale = Callable[[str], float]


@dataclass(frozen=True)
class OptimOptions:
    """How the weights are moved. The learning rate is used as given: nothing rescales it."""

    optimizer: Literal["sgd", "adamw", "lars"] = "sgd"
    """The optimiser: sgd (with momentum), adamw, or lars (for large batches)."""
    lr: float | None = 0.1
    """Peak learning rate. Default of fine-tuning: 0.1 from scratch, 0.03 from a run, 0.01 from
    released weights."""
    momentum: float = option(0.9, page="all")
    """Momentum of sgd and lars."""
    betas: tuple[float, float] = option((0.9, 0.999), page="all")
    """Decay of adamw's averages of the gradient and of its square."""
    weight_decay: float = 5e-4
    """Weight decay: an L2 penalty for sgd and lars, decoupled for adamw."""
    decay: Literal["all", "weights"] = option("all", page="all")
    """Parameters that decay: all (as in the long-tail papers), or weights (no norms, no biases)."""
    nesterov: bool = option(default=False, page="all")
    """Use Nesterov momentum with sgd."""
    clip_grad_norm: float | None = option(None, page="all")
    """Clip the norm of the gradient to this value. Default: 5 for fine-tuning from a run, otherwise
    no clipping."""
    sam: float = option(0.0, page="all")
    """Sharpness-aware minimisation (arXiv:2010.01412): take the gradient this far uphill of the
    weights, such as 0.05, with any optimiser. A step takes twice as long (0 = off)."""
    ema: float = option(0.0, page="all")
    """Decay of an exponential moving average of the weights, such as 0.999; after t steps at most
    (1 + t) / (10 + t). The averaged network is evaluated and exported (0 = off)."""

    def __post_init__(self) -> None:
        ranges = {"lr": "(0, inf)", "momentum": "[0, 1)", "weight_decay": "[0, inf)"}
        check_range(self, {**ranges, "ema": "[0, 1)", "sam": "[0, inf)"})
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"--betas: {' '.join(map(str, self.betas))} are not both in [0, 1)")
        if self.clip_grad_norm is not None and not self.clip_grad_norm > 0:
            raise ConfigError(f"--clip-grad-norm: {self.clip_grad_norm} is not positive")
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ConfigError("--nesterov: needs a --momentum above 0")

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        found = {} if self.optimizer == "sgd" else {"nesterov": "--optimizer sgd"}
        if self.optimizer == "adamw":
            return found | {"momentum": "--optimizer sgd or lars"}
        return found | {"betas": "--optimizer adamw"}

    @property
    def peak_lr(self) -> float:
        """`lr`, once it is known."""
        assert self.lr is not None
        return self.lr


def same_rate(name: str) -> float:
    """Every parameter moves at the learning rate."""
    return 1.0


def parameter_groups(
    module: nn.Module, options: OptimOptions, *, lr_scale: LrScale = same_rate
) -> list[dict[str, Any]]:
    """Trainable parameters, split by whether they decay and by how fast they learn.

    Args:
        module: the task.
        options: `decay` and `weight_decay`.
        lr_scale: name of a parameter -> factor on its learning rate; kept as the group's
            `lr_scale`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = options.decay == "all" or parameter.ndim > 1
            key = (options.weight_decay if decays else 0.0, lr_scale(name))
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), parameters in groups.items()
    ]


def build_optimizer(
    module: nn.Module, options: OptimOptions, *, lr_scale: LrScale = same_rate
) -> torch.optim.Optimizer:
    """The optimiser over the module's trainable parameters."""
    groups = parameter_groups(module, options, lr_scale=lr_scale)
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=options.peak_lr,
            momentum=options.momentum,
            nesterov=options.nesterov,
            fused=True,
        )
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.peak_lr, betas=options.betas, fused=True)
    # Imports slowly, and few runs need it. lightly's waits for the device twice a weight.
    from timm.optim.lars import Lars

    lars: torch.optim.Optimizer = Lars(
        groups, lr=options.peak_lr, momentum=options.momentum, foreach=True
    )
    return lars
