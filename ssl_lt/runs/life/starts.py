"""Starts that are compared: what each brings along, and how the folder of a series keeps that."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.yaml_file import as_words
from ssl_lt.core.errors import ConfigError
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, kind_of
from ssl_lt.runs.config.parse import parse
from ssl_lt.runs.config.schema import flags, to_mapping
from ssl_lt.runs.config.series import SeriesOptions
from ssl_lt.runs.config.stored import read_config
from ssl_lt.runs.life.init_from import FLIPS, InitSource, find_source
from ssl_lt.runs.life.place import Moved

# Of the options of the data: what weights expect of images. The others go with the images, and so
# does how often these are mirrored.
_SEEN = {"image-size", "mean", "std", "interpolation", "crop-pct"}
_WHICH = {flag.name for flag in flags(DataOptions())} - _SEEN | {FLIPS}
_KEY = "start-"


@dataclass(frozen=True)
class ComparedStart:
    """One start of a comparison.

    Attributes:
        name: what `--init-from` says of it.
        words: what it brings along, as it would be typed over the configuration of the series.
    """

    name: str
    words: tuple[str, ...]


def find_compared(
    names: Sequence[str], *, backbone: str | None, moved: Moved
) -> tuple[InitSource, ...]:
    """Resolves what `--compare` names; the arguments are those of `find_source`.

    Raises:
        ConfigError: one is not there, or two are the same weights.
        CheckpointError: a run without a valid checkpoint.
    """
    found: dict[Path | None, InitSource] = {}
    for name in names:
        try:
            source = find_source(name, backbone=backbone, moved=moved)
        except ConfigError as error:
            raise ConfigError(str(error).replace("--init-from:", "--compare:", 1)) from error
        if name == "auto" and source.weights is None:
            raise ConfigError(f"--compare: auto: {source.note.partition(':')[0]}")
        weights = None if source.weights is None else source.weights.resolve()
        if weights in found:
            raise ConfigError(f"--compare: {found[weights].name} and {name} are the same start")
        found[weights] = source
    return tuple(found.values())


def brought(sources: Sequence[InitSource]) -> list[Mapping[str, Any]]:
    """What is laid under the flags of each: its own network and images, and everyone's data."""
    data = next((source.values for source in sources if "data" in source.values), {})
    shared = {name: value for name, value in data.items() if name in _WHICH}
    network = next(source.values for source in sources if source.weights is not None)
    own = (network if source.weights is None else source.values for source in sources)
    return [
        {name: value for name, value in values.items() if name not in _WHICH} | shared
        for values in own
    ]


def compared(
    names: Sequence[str], configs: Sequence[AnyFinetuneConfig]
) -> tuple[AnyFinetuneConfig, tuple[ComparedStart, ...]]:
    """The configuration of the series, which is that of its first start, and all starts.

    Args:
        names: of the sources that `find_compared` gives.
        configs: what the flags say over what each of them brings.
    """
    series = replace(configs[0].series, compare=tuple(names))
    base = to_mapping(configs[0])
    others = [
        {name: value for name, value in to_mapping(config).items() if value != base[name]}
        for config in configs
    ]
    starts = (ComparedStart(n, tuple(as_words(v))) for n, v in zip(names, others, strict=True))
    return replace(configs[0], series=series), tuple(starts)


def started_from(config: AnyFinetuneConfig, start: ComparedStart) -> AnyFinetuneConfig:
    """The configuration of one run that begins at this start."""
    alone = replace(config, init_from=start.name, series=SeriesOptions())
    own: AnyFinetuneConfig = parse(kind_of(config.loss), start.words, default=alone)
    return own


def starts_to_store(starts: Sequence[ComparedStart]) -> dict[str, str]:
    """For `config.yaml`, see `write_config`; their names are in the configuration."""
    return {f"{_KEY}{i}": shlex.join(start.words) for i, start in enumerate(starts, start=1)}


def stored_starts(folder: RunFolder) -> tuple[ComparedStart, ...]:
    """Those of a series; none where no starts are compared.

    Raises:
        ConfigError: `config.yaml` cannot be read.
    """
    stored = read_config(folder.config)
    return tuple(
        ComparedStart(name, tuple(shlex.split(stored.started_from.get(f"{_KEY}{i}", ""))))
        for i, name in enumerate(stored.values.get("compare", ()), start=1)
    )
