"""The typed configuration of `pretrain.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ssl_lt.augment.views import ViewOptions
from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Effect, Flat, option, section
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.plan import FitOptions
from ssl_lt.engine.schedule import ScheduleOptions
from ssl_lt.models.heads import ProjectorOptions
from ssl_lt.models.options import ModelOptions
from ssl_lt.pretrain.registry import (
    ALIASES,
    METHODS,
    PLUGINS,
    MethodName,
    MethodOptions,
    PluginName,
    PluginOptions,
)
from ssl_lt.runs.config.run import RunOptions


@dataclass(frozen=True)
class PretrainConfig:
    """Learn a representation without labels, from two views of each image.

    --plugins bcl is Boosted Contrastive Learning (ICML 2022). Balanced Contrastive Learning
    (CVPR 2022) needs labels: finetune.py --loss bcl.
    """

    method: MethodName = option("simclr", group="method")
    """How two views are embedded and compared. bcl and gh stand for simclr with that plug-in."""
    plugins: tuple[PluginName, ...] = option((), group="method")
    """Plug-ins that join the method, any with any: bcl (boosted memory), gh (harmonization)."""
    methods: Flat[MethodOptions] = section("method", MethodOptions)
    options: Flat[PluginOptions] = section("method", PluginOptions)
    init_from: str = option("scratch", effect=Effect.START, group="start")
    """scratch, or weights that training goes on from, with a new projector: timm:NAME,
    hf-hub:ORG/NAME, local-dir:PATH, an exported folder, a file (with --backbone), a run or auto
    (the newest pretraining run)."""
    extend: str | None = option(None, effect=Effect.START, group="start")
    """Finished pretraining run, or auto (the newest one), that a new run goes on from with its
    whole state and configuration. --epochs says how many more, and the schedule is that of all
    epochs together. --data may be other images."""
    data: Flat[DataOptions] = section("data", DataOptions)
    model: Flat[ModelOptions] = section("network", ModelOptions)
    freeze_patch_embed: Literal["auto", "on", "off"] = option("auto", page="all", group="network")
    """Keep the patch embedding of a transformer as it starts, for stability (MoCo-v3). auto: on
    where a ViT starts from scratch."""
    projector: ProjectorOptions = section("projector", ProjectorOptions)
    view: ViewOptions = section("views", ViewOptions)
    fit: Flat[FitOptions] = section("training", lambda: FitOptions(epochs=40))
    optim: Flat[OptimOptions] = section("training", lambda: OptimOptions(lr=0.3))
    schedule: Flat[ScheduleOptions] = section("training", lambda: ScheduleOptions(warmup_epochs=3))
    knn_every: int = option(5, group="monitoring")
    """Run the online check every N epochs (0 = off): the spread of the features, which detects
    collapse, and kNN accuracy if there are labels (on the validation set, otherwise on the test
    set)."""
    knn_data: str | None = option(None, effect=Effect.PLACE, page="all", group="monitoring")
    """Labelled set for the kNN accuracy (same syntax as --data), where --data has no labels or
    other classes count: its training images vote, its validation or else its test images are
    judged. Default: --data."""
    run: Flat[RunOptions] = section("run", RunOptions)

    def __post_init__(self) -> None:
        check_at_least(self, {"knn_every": 0})
        for flag, value in (("epochs", self.fit.epochs), ("lr", self.optim.lr)):
            if value is None:
                raise ConfigError(f"--{flag}: None is not a number")
        for plugin in self.plugins:
            if self.plugins.count(plugin) > 1:
                raise ConfigError(f"--plugins: {plugin} is given twice")

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        method, implied = ALIASES.get(self.method, (self.method, ()))
        methods = [name for name in METHODS if name != method]
        plugins = [name for name in PLUGINS if name not in (*implied, *self.plugins)]
        parts = (self.optim, self.schedule, self.methods.shared, self.view, self.options.gh)
        found = {start: choice for part in parts for start, choice in part.without_effect().items()}
        found |= {f"{name}.": f"--method {name}" for name in methods}
        if not self.knn_every:
            found["knn-data"] = "--knn-every above 0"
        return found | {f"{name}.": f"--plugins {name}" for name in plugins}


def spelled_out(config: PretrainConfig, *, stored: PretrainConfig | None = None) -> PretrainConfig:
    """`--method bcl` and the like as what they stand for.

    Args:
        config: as it was asked for.
        stored: of a run that goes on, whose plug-ins are in `config` unless others were named.

    Raises:
        ConfigError: the plug-in that the alias stands for is given, too.
    """
    if config.method not in ALIASES:
        return config
    method, implied = ALIASES[config.method]
    plugins = config.plugins
    if stored is not None and plugins == stored.plugins:
        plugins = tuple(plugin for plugin in plugins if plugin not in implied)
    return replace(config, method=method, plugins=(*implied, *plugins))
