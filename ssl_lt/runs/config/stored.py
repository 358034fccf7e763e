"""`config.yaml` of a run: the resolved configuration, written at the start and read back."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.yaml_file import read_yaml, write_yaml
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Effect
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, FinetuneConfig, default_config, kind_of
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.config.schema import names_with, to_mapping
from ssl_lt.runs.config.tail import TailConfig

# What config.yaml of a folder that holds several fine-tuning runs calls itself.
SERIES = "finetune-series"

TrainConfig = PretrainConfig | AnyFinetuneConfig
AnyConfig = TrainConfig | EvaluateConfig
T = TypeVar("T", bound=TrainConfig)

# Where it was started, as a path and as one from its folder, which may have moved with the data.
_DIRECTORIES = ("directory", "directory-from-run")
_ABOUT_THE_RUN = ("verb", "command", *_DIRECTORIES)
_STARTED_FROM = "started-from."
# Data sets of one small size, which `--image-size` once said nothing of.
_ONE_SIZE = ("digits", "cifar10", "cifar100")


@dataclass(frozen=True)
class StoredConfig:
    """What `config.yaml` says.

    Attributes:
        verb: "pretrain", "finetune", "evaluate" or `SERIES`.
        command: as it was typed.
        values: flag name -> plain value, of the flags that have an effect.
        started_from: name, digest and licence of the weights it began with, or facts of the run
            that it extends; empty from scratch.
        directories: that relative paths among the values are found from: below the place where
            the run's folder is now, and where it was started.
    """

    verb: str
    command: str
    values: Mapping[str, Any]
    started_from: Mapping[str, str]
    directories: tuple[Path, ...] = ()

    @property
    def epochs_before(self) -> int:
        """Epochs that were trained before the run began; 0 where it extends none."""
        return int(self.started_from.get("epochs", 0))

    @property
    def config(self) -> TrainConfig:
        """The typed configuration.

        Raises:
            ConfigError: a key that this version does not know, a value that does not fit, or what
                evaluate.py has measured of weights, which is no run that trains.
        """
        if self.verb == "evaluate":
            raise ConfigError(
                f"this is what evaluate.py measured of {self.values.get('init-from')}, "
                "and holds no weights"
            )
        if self.verb == "pretrain":
            return from_mapping(PretrainConfig, self.values, default=PretrainConfig())
        loss = str(self.values.get("loss", "la"))
        return from_mapping(kind_of(loss), self.values, default=default_config(loss))


def stored_pretraining(path: Path) -> PretrainConfig:
    """The configuration of a pretraining run, which `config.yaml` is of."""
    config = read_config(path).config
    assert isinstance(config, PretrainConfig)
    return config


def stored_finetuning(path: Path) -> AnyFinetuneConfig:
    """The configuration of a fine-tuning run or a series, which `config.yaml` is of."""
    config = read_config(path).config
    assert not isinstance(config, PretrainConfig)
    return config


def without_effect(config: object) -> dict[str, str]:
    """Start of a flag -> what has to be chosen for such flags to have an effect."""
    if isinstance(config, PretrainConfig | FinetuneConfig | EvaluateConfig | TailConfig):
        return config.without_effect()
    return {}


def effective_mapping(config: AnyConfig, *, but_for: Collection[Effect] = ()) -> dict[str, Any]:
    """Flag name -> plain value, of the flags that have an effect for what was chosen.

    Args:
        config: of a run.
        but_for: flags on which only these depend are left out.
    """
    found, free = to_mapping(config, skip=config.without_effect()), names_with(config, *but_for)
    return {name: value for name, value in found.items() if name not in free}


def write_config(
    path: Path,
    config: AnyConfig,
    *,
    verb: str,
    command: str,
    started_from: Mapping[str, str] | None = None,
) -> None:
    """Writes the resolved configuration; `read_config` gives the same object back."""
    here = Path.cwd()
    about = {"verb": verb, "command": command, "directory": str(here)}
    about["directory-from-run"] = os.path.relpath(here, path.parent.absolute())
    start = {_STARTED_FROM + name: value for name, value in (started_from or {}).items()}
    write_text_atomically(path, write_yaml({**about, **start, **effective_mapping(config)}))


def read_config(path: Path) -> StoredConfig:
    """Reads `config.yaml`.

    Raises:
        ConfigError: it cannot be read; names the file and line.
    """
    content = read_yaml(path)
    values = option_values(content)
    if "interpolation" not in values and values.get("data") in _ONE_SIZE:
        values.pop("image-size", None)
    return StoredConfig(
        str(content.get("verb")),
        str(content.get("command", "")),
        values,
        {
            key.removeprefix(_STARTED_FROM): str(value)
            for key, value in content.items()
            if key.startswith(_STARTED_FROM)
        },
        _directories(content, path.parent.absolute()),
    )


def _directories(content: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    there, from_run = (content.get(key) for key in _DIRECTORIES)
    if there is None or from_run is None:
        return ()
    return Path(os.path.normpath(folder / str(from_run))), Path(str(there))


def option_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a YAML file; that of a run has more keys, and may be given as --config."""
    return {
        key: value
        for key, value in values.items()
        if key not in _ABOUT_THE_RUN and not key.startswith(_STARTED_FROM)
    }
