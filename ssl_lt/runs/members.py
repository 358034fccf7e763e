"""Which runs a series consists of: starts, seeds, stages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.supervised_contrastive import ContrastOptions
from ssl_lt.models.released import HUB, TIMM
from ssl_lt.models.tuning.registry import chosen
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, default_config
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.schema import flags, to_mapping
from ssl_lt.runs.config.series import SeriesOptions, Stage
from ssl_lt.runs.life.starts import ComparedStart, started_from


@dataclass(frozen=True)
class Member:
    """One run of a series.

    Attributes:
        name: of its folder, inside the series' own.
        start: what it starts from, in the tables.
        config: complete, as if the run stood alone.
        is_last: of its stages; the earlier ones are not compared.
    """

    name: str
    start: str
    config: AnyFinetuneConfig
    is_last: bool


def series_members(
    config: AnyFinetuneConfig, starts: Sequence[ComparedStart], folder: Path
) -> Iterator[Member]:
    """The runs, in the order in which they are trained; a later stage starts from the one before.

    Args:
        config: with `series`.
        starts: that are compared; none: the one of the configuration.
        folder: of the series.

    Raises:
        ConfigError: as `run_series`.
    """
    series = config.series
    if config.tune == "head" and series.stages:
        raise ConfigError("--tune head: --stages says when the classifier alone is trained")
    if chosen(config.tune).stays and set(series.stages[:-1]) - {"classifier"}:
        raise ConfigError(
            f"--tune {config.tune}: no stage can follow one that it tunes: it cannot be merged"
        )
    own = replace(config, series=SeriesOptions())
    found = [(name_of(config.init_from), "", own)]
    if starts:
        names = distinct_names([start.name for start in starts])
        found = [
            (name, f"{number}-{_as_folder(name)}-", started_from(config, start))
            for number, (name, start) in enumerate(zip(names, starts, strict=True), start=1)
        ]
    for name, prefix, alone in found:
        for seed in series.seeds or (config.run.seed,):
            member = replace(alone, run=replace(alone.run, seed=seed))
            yield from _stages(member, series, folder, name, f"{prefix}seed{seed}")


def name_of(start: str) -> str:
    """Of a start in tables: the last part of a path."""
    return start if start.startswith((TIMM, HUB)) else Path(start).name or start


def distinct_names(starts: Sequence[str]) -> list[str]:
    """`name_of` each, or the whole of it where two would have the same name."""
    short = [name_of(start) for start in starts]
    return [s if short.count(s) == 1 else start for s, start in zip(short, starts, strict=True)]


def _as_folder(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name).strip("-")[:60]


def _stages(
    config: AnyFinetuneConfig, series: SeriesOptions, folder: Path, start: str, name: str
) -> Iterator[Member]:
    """One run, or one a stage."""
    if not series.stages:
        yield Member(name, start, _kept_in(config, folder / name), is_last=True)
        return
    epochs = series.stage_epochs or (config.fit.epochs,) * len(series.stages)
    before: Path | None = None
    has_classifier = False
    for number, (stage, length) in enumerate(zip(series.stages, epochs, strict=True), start=1):
        own = stage_config(config, stage, epochs=length)
        if before is not None:
            own = replace(own, init_from=str(before), init_classifier=has_classifier)
        before = folder / f"{name}-{number}-{stage}"
        has_classifier = stage != "contrast"
        yield Member(
            before.name, start, _kept_in(own, before), is_last=number == len(series.stages)
        )


def stage_config(
    config: AnyFinetuneConfig, stage: Stage, *, epochs: int | None
) -> AnyFinetuneConfig:
    """What one stage trains.

    Raises:
        ConfigError: a contrast alone is asked for and the loss has none.
    """
    config = replace(config, fit=replace(config.fit, epochs=epochs))
    if stage != "classifier" and config.sampling.sampler == "meta":
        # It learns on a frozen backbone, so it waits for the stage that has one.
        config = replace(config, sampling=replace(config.sampling, sampler="instance"))
    if stage == "contrast":
        if not isinstance(config.options, ContrastOptions):
            raise ConfigError(
                f"--stages: --loss {config.loss} has no contrast that could be trained alone"
            )
        # It has no classifier by which an epoch could be chosen.
        fit = replace(config.fit, keep="last", early_stop=0)
        return replace(config, fit=fit, options=replace(config.options, classification_weight=0.0))
    if stage == "classifier":
        if not config.entry.is_classification:
            config = _with_loss(config, "la")
            config = replace(config, mixing=config.mixing.by_area())
        return replace(config, tune="head", adapter_dim=None)
    return config


def _with_loss(config: AnyFinetuneConfig, loss: str) -> AnyFinetuneConfig:
    """The same configuration with another loss; options that both have keep their values."""
    chosen = default_config(loss)
    known = {flag.name for flag in flags(chosen.options)}
    shared = {k: v for k, v in to_mapping(config.options).items() if k in known}
    options = from_mapping(type(chosen.options), shared, default=chosen.options)
    return replace(config, loss=loss, options=options, view=chosen.view)


def _kept_in(config: AnyFinetuneConfig, path: Path) -> AnyFinetuneConfig:
    return replace(config, run=replace(config.run, run_dir=path))
