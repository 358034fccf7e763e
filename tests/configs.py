"""Configurations for tests, by the parsers that commands use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import ssl_lt
from ssl_lt.cli.commands import finetune, pretrain
from ssl_lt.cli.config.command_line import Files, RunFiles, read_config, read_words
from ssl_lt.cli.config.recipes import recipe_names
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, default_config, kind_of
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.pretrain import PretrainConfig, spelled_out

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = Path(ssl_lt.__file__).parent / "recipes"


def pretraining(
    method: str = "simclr", plugins: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> PretrainConfig:
    """`pretrain.py --method METHOD --plugins ...`, with other flags by name."""
    chosen: Any = replace(PretrainConfig(), method=method, plugins=tuple(plugins))
    default = spelled_out(chosen)
    return from_mapping(PretrainConfig, values, default=default) if values else default


def finetuning(loss: str = "la", values: Mapping[str, Any] | None = None) -> AnyFinetuneConfig:
    """`finetune.py --loss LOSS`, with other flags by name."""
    default = default_config(loss)
    return from_mapping(kind_of(loss), values, default=default) if values else default


def read(verb: str, words: Sequence[str]) -> Any:
    """The configuration that `VERB.py WORDS...` would start with.

    Raises:
        ConfigError: the command would not start.
    """
    if verb == "pretrain":
        return pretrain.read(words)[0]
    if verb == "finetune":
        return finetune.read_new(read_words(words, RunFiles())).config
    assert verb == "evaluate"
    return read_config(EvaluateConfig, read_words(words, Files()), default=EvaluateConfig())


@cache
def recipe(verb: str, *names: str) -> Any:
    """The configuration of `--config VERB/NAME`, a later one after an earlier one."""
    files = [word for n in names for word in ("--config", f"{verb}/{n}")]
    # Without a run to start from, which a recipe leaves open.
    scratch = ["--init-from", "scratch"] if verb == "finetune" else []
    return read(verb, [*files, *scratch])


def recipes(verb: str) -> list[str]:
    """Names of all recipes of a verb, such as `cifar10_lt/simclr`."""
    return [name.removeprefix(f"{verb}/") for name in recipe_names() if name.startswith(verb)]
