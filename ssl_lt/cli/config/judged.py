"""From words to the configuration of a command that looks at a run, or at weights without a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from ssl_lt.cli.config.command_line import Files, Words, read_config
from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.config.evaluate import EvaluateConfig, unused_without_weights
from ssl_lt.runs.config.parse import parse_known
from ssl_lt.runs.config.schema import flags
from ssl_lt.runs.config.tail import TailConfig
from ssl_lt.runs.life.find import find_run
from ssl_lt.runs.life.init_from import InitSource, find_source
from ssl_lt.runs.life.place import Moved, is_data_of

C = TypeVar("C", EvaluateConfig, TailConfig)


@dataclass(frozen=True)
class Choice:
    """What decides the defaults of other options."""

    run: str = "auto"
    init_from: str | None = None
    backbone: str | None = None
    data: str | None = None
    data_root: str | None = None


def read_judged(words: Words[Files], default: C) -> tuple[C, InitSource | None]:
    """The configuration, with the data and the network that go with the weights.

    Args:
        words: what was typed.
        default: what is not given.

    Returns:
        The configuration, and the weights; None: those of its run.

    Raises:
        ConfigError: both a run and weights are named.
    """
    asked = parse_known(Choice, words.all, default=Choice())
    choice, start = asked.config, asked.config.init_from
    if start is not None and "run" in asked.given:
        raise ConfigError("--run: --init-from says what is judged; leave one of them out")
    if start is None and choice.data is not None and not _is_own_data(words, choice, default):
        start = str(find_run(choice.run).path)
    if start is None:
        return read_config(type(default), words, default=default), None
    moved = Moved(choice.data, choice.data_root)
    source = find_source(start, backbone=choice.backbone, moved=moved)
    known = {flag.name for flag in flags(default)}
    values = {name: value for name, value in source.values.items() if name in known}
    words = words.over(source.name, values)
    config = read_config(type(default), words, default=replace(default, init_from=source.name))
    return replace(config, run="auto"), source


def _is_own_data(words: Words[Files], choice: Choice, default: C) -> bool:
    """Whether `--data` says where the images of the run are now, and nothing else of the data."""
    assert choice.data is not None
    given = parse_known(type(default), words.all, default=default).given
    other = {"run-dir", *unused_without_weights(default)}
    return not given & other and is_data_of(find_run(choice.run), choice.data)
