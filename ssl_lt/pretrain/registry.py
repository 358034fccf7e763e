"""The methods and plug-ins that `pretrain.py` knows: one line each, and one for their options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ssl_lt.augment.boosted import BoostedView
from ssl_lt.augment.views import ViewOptions
from ssl_lt.core.options import Flat
from ssl_lt.core.types import ImageSpec, View
from ssl_lt.pretrain.focal import Focal, FocalOptions
from ssl_lt.pretrain.harmonization import (
    GeometricHarmonization,
    HarmonizationOptions,
    warmup_end,
)
from ssl_lt.pretrain.memory_boost import MemoryBoost, MemoryBoostOptions
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.sdclr import SDCLR, SDCLROptions
from ssl_lt.pretrain.simclr import SimCLR
from ssl_lt.pretrain.temperature import TemperatureOptions
from ssl_lt.pretrain.two_views import Plugin, TwoViewTask

MethodName = Literal["simclr", "focal", "sdclr", "bcl", "gh"]
PluginName = Literal["bcl", "gh"]


@dataclass(frozen=True)
class MethodOptions:
    """Options of the methods: those that all share, then each method's own."""

    shared: Flat[TemperatureOptions] = field(default_factory=TemperatureOptions)
    focal: FocalOptions = field(default_factory=FocalOptions)
    sdclr: SDCLROptions = field(default_factory=SDCLROptions)


@dataclass(frozen=True)
class PluginOptions:
    """Options of the plug-ins."""

    bcl: MemoryBoostOptions = field(default_factory=MemoryBoostOptions)
    gh: HarmonizationOptions = field(default_factory=HarmonizationOptions)


@dataclass(frozen=True)
class MethodEntry:
    """A pretraining method: how it is built (parts, options, seed), and a line with the source."""

    build: Callable[[TwoViewParts, MethodOptions, int], TwoViewTask]
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


class BuildView(Protocol):
    """The view that uses a plug-in's strength."""

    def __call__(self, options: PluginOptions, view: ViewOptions, images: ImageSpec) -> View:
        """Of images like these."""


@dataclass(frozen=True)
class PluginEntry:
    """A plug-in.

    Attributes:
        build: (options, site) -> plug-in; raises ConfigError where they do not go together.
        description: one line, with the source.
        view: the view that uses its strength; None where it leaves the views alone.
    """

    build: Callable[[PluginOptions, PluginSite], Plugin]
    description: str
    view: BuildView | None = None


def simclr(parts: TwoViewParts, options: MethodOptions, seed: int) -> TwoViewTask:
    """See `SimCLR`."""
    return SimCLR(parts, temperature=options.shared, seed=seed)


def focal(parts: TwoViewParts, options: MethodOptions, seed: int) -> TwoViewTask:
    """See `Focal`."""
    return Focal(parts, temperature=options.shared, options=options.focal, seed=seed)


def sdclr(parts: TwoViewParts, options: MethodOptions, seed: int) -> TwoViewTask:
    """See `SDCLR`."""
    return SDCLR(parts, temperature=options.shared, options=options.sdclr, seed=seed)


def memory_boost(options: PluginOptions, site: PluginSite) -> Plugin:
    """See `MemoryBoost`."""
    return MemoryBoost(options.bcl, num_samples=site.num_samples)


def boosted_view(options: PluginOptions, view: ViewOptions, images: ImageSpec) -> View:
    """The view whose strength `MemoryBoost` sets."""
    boost = options.bcl
    return BoostedView(view, images, num_ops=boost.num_ops, rule=boost.rule)


def geometric_harmonization(options: PluginOptions, site: PluginSite) -> Plugin:
    """See `GeometricHarmonization`."""
    warmup_end(options.gh, site.total_epochs)  # raises where the warm-up does not end in time
    return GeometricHarmonization(
        options.gh, num_samples=site.num_samples, dim=site.embedding_dim, seed=site.seed
    )


METHODS: dict[str, MethodEntry] = {
    "simclr": MethodEntry(simclr, "SimCLR (arXiv:2002.05709)"),
    "focal": MethodEntry(focal, "SimCLR with a focal NT-Xent"),
    "sdclr": MethodEntry(sdclr, "self-damaging pruning (arXiv:2106.02990)"),
}

PLUGINS: dict[str, PluginEntry] = {
    "bcl": PluginEntry(
        memory_boost,
        "Boosted Contrastive Learning: hard-to-learn samples get stronger views (ICML 2022)",
        view=boosted_view,
    ),
    "gh": PluginEntry(
        geometric_harmonization,
        "Geometric Harmonization: surrogate labels by Sinkhorn (arXiv:2310.17622)",
    ),
}

# What a user may also type as a method: the method and the plug-ins that it stands for.
ALIASES: dict[str, tuple[MethodName, tuple[PluginName, ...]]] = {
    "bcl": ("simclr", ("bcl",)),
    "gh": ("simclr", ("gh",)),
}
