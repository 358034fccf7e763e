"""The methods and plug-ins that `pretrain.py` knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssl_lt.augment.boosted import BoostedView
from ssl_lt.augment.views import ViewOptions
from ssl_lt.core.types import View
from ssl_lt.pretrain.focal import Focal, FocalOptions
from ssl_lt.pretrain.harmonization import (
    GeometricHarmonization,
    HarmonizationOptions,
    warmup_end,
)
from ssl_lt.pretrain.memory_boost import MemoryBoost, MemoryBoostOptions
from ssl_lt.pretrain.sdclr import SDCLR, SDCLROptions
from ssl_lt.pretrain.simclr import SimCLR, SimCLROptions
from ssl_lt.pretrain.two_views import Plugin, TwoViewTask


@dataclass(frozen=True)
class MethodEntry:
    """A pretraining method.

    Attributes:
        build: (parts, *, options, seed) -> task.
        options: frozen dataclass whose fields become flags.
        description: one line, with the source.
    """

    build: Callable[..., TwoViewTask]
    options: type[Any]
    description: str


@dataclass(frozen=True)
class PluginSite:
    """What a plug-in must know of the training it is added to.

    Attributes:
        num_samples: N, size of the training set.
        embedding_dim: D, width of the projections.
        total_epochs: of the training.
        seed: of the run.
    """

    num_samples: int
    embedding_dim: int
    total_epochs: int
    seed: int


@dataclass(frozen=True)
class PluginEntry:
    """A plug-in.

    Attributes:
        build: (options, site) -> plug-in; raises ConfigError where they do not go together.
        options: frozen dataclass whose fields become flags, prefixed with the plug-in's name.
        description: one line, with the source.
        view: (options, view options, size=, mean=, std=) -> the view that uses its strength;
            None where it leaves the views alone.
    """

    build: Callable[[Any, PluginSite], Plugin]
    options: type[Any]
    description: str
    view: Callable[..., View] | None = None


def memory_boost(options: MemoryBoostOptions, site: PluginSite) -> Plugin:
    """See `MemoryBoost`."""
    return MemoryBoost(options, num_samples=site.num_samples)


def boosted_view(options: MemoryBoostOptions, view: ViewOptions, **picture: Any) -> View:
    """The view whose strength `MemoryBoost` sets; `picture` is size, mean and std."""
    return BoostedView(view, num_ops=options.num_ops, rule=options.rule, **picture)


def geometric_harmonization(options: HarmonizationOptions, site: PluginSite) -> Plugin:
    """See `GeometricHarmonization`."""
    warmup_end(options, site.total_epochs)  # raises where the warm-up does not end in time
    return GeometricHarmonization(
        options, num_samples=site.num_samples, dim=site.embedding_dim, seed=site.seed
    )


METHODS: dict[str, MethodEntry] = {
    "simclr": MethodEntry(SimCLR, SimCLROptions, "SimCLR (arXiv:2002.05709)"),
    "focal": MethodEntry(Focal, FocalOptions, "SimCLR with a focal NT-Xent"),
    "sdclr": MethodEntry(SDCLR, SDCLROptions, "self-damaging pruning (arXiv:2106.02990)"),
}

PLUGINS: dict[str, PluginEntry] = {
    "bcl": PluginEntry(
        memory_boost,
        MemoryBoostOptions,
        "Boosted Contrastive Learning: hard-to-learn samples get stronger views (ICML 2022)",
        view=boosted_view,
    ),
    "gh": PluginEntry(
        geometric_harmonization,
        HarmonizationOptions,
        "Geometric Harmonization: surrogate labels by Sinkhorn (arXiv:2310.17622)",
    ),
}

# What a user may also type as a method: the method and the plug-ins that it stands for.
ALIASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "bcl": ("simclr", ("bcl",)),
    "gh": ("simclr", ("gh",)),
}
