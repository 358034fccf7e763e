"""`config.yaml` of a run: the resolved configuration, written at the start and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.yaml_file import read_yaml, write_yaml
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, FinetuneConfig, default_config, kind_of
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.config.schema import to_mapping

# What config.yaml of a folder that holds several fine-tuning runs calls itself.
SERIES = "finetune-series"

TrainConfig = PretrainConfig | AnyFinetuneConfig
T = TypeVar("T", bound=TrainConfig)

_ABOUT_THE_RUN = ("verb", "command")


@dataclass(frozen=True)
class StoredConfig:
    """What `config.yaml` says.

    Attributes:
        verb: "pretrain", "finetune" or `SERIES`.
        command: as it was typed.
        values: flag name -> plain value, of the flags that have an effect.
    """

    verb: str
    command: str
    values: Mapping[str, Any]

    @property
    def config(self) -> TrainConfig:
        """The typed configuration.

        Raises:
            ConfigError: a key that this version does not know, or a value that does not fit.
        """
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
    if isinstance(config, PretrainConfig | FinetuneConfig):
        return config.without_effect()
    return {}


def effective_mapping(config: TrainConfig) -> dict[str, Any]:
    """Flag name -> plain value, of the flags that have an effect for what was chosen."""
    return to_mapping(config, skip=config.without_effect())


def write_config(path: Path, config: TrainConfig, *, verb: str, command: str) -> None:
    """Writes the resolved configuration; `read_config` gives the same object back."""
    content = {"verb": verb, "command": command, **effective_mapping(config)}
    write_text_atomically(path, write_yaml(content))


def read_config(path: Path) -> StoredConfig:
    """Reads `config.yaml`.

    Raises:
        ConfigError: it cannot be read; names the file and line.
    """
    values = read_yaml(path)
    return StoredConfig(
        str(values.get("verb")), str(values.get("command", "")), option_values(values)
    )


def option_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a YAML file; that of a run has more keys, and may be given as --config."""
    return {key: value for key, value in values.items() if key not in _ABOUT_THE_RUN}
