"""The methods and plug-ins that `pretrain.py` knows: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssl_lt.pretrain.focal import Focal, FocalOptions
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
class PluginEntry:
    """A plug-in.

    Attributes:
        build: (options, *, num_samples, ...) -> plug-in.
        options: frozen dataclass whose fields become flags, prefixed with the plug-in's name.
        description: one line, with the source.
    """

    build: Callable[..., Plugin]
    options: type[Any]
    description: str


METHODS: dict[str, MethodEntry] = {
    "simclr": MethodEntry(SimCLR, SimCLROptions, "SimCLR (arXiv:2002.05709)"),
    "focal": MethodEntry(Focal, FocalOptions, "SimCLR with a focal NT-Xent"),
    "sdclr": MethodEntry(SDCLR, SDCLROptions, "self-damaging pruning (arXiv:2106.02990)"),
}

PLUGINS: dict[str, PluginEntry] = {}

# What a user may also type as a method: the method and the plug-ins that it stands for.
ALIASES: dict[str, tuple[str, tuple[str, ...]]] = {}
