"""`evaluate.py`: judge a run or released weights on the balanced test split, and make a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ssl_lt.cli.config.command_line import Files, Words, read_config, read_words, show_help
from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.parse import parse_known
from ssl_lt.runs.evaluate import evaluate
from ssl_lt.runs.life.find import find_run
from ssl_lt.runs.life.init_from import InitSource, find_source
from ssl_lt.runs.life.place import Moved, is_data_of

_USAGE = "evaluate.py [--run RUN | --init-from WEIGHTS --data SOURCE] [OPTIONS]"


@dataclass(frozen=True)
class Choice:
    """What decides the defaults of other options."""

    run: str = "auto"
    init_from: str | None = None
    backbone: str | None = None
    data: str | None = None
    data_root: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    if not show_help(arguments, usage=_USAGE, default=EvaluateConfig(), files=Files()):
        run(arguments)
    return 0


def run(arguments: Sequence[str]) -> RunFolder:
    """What the arguments name, judged."""
    config, source = read(read_words(arguments, Files()))
    return evaluate(config, source=source)


def read(words: Words[Files]) -> tuple[EvaluateConfig, InitSource | None]:
    """The configuration, with the data and the network that go with the weights.

    Raises:
        ConfigError: both a run and weights are named.
    """
    asked = parse_known(Choice, words.all, default=Choice())
    choice, start = asked.config, asked.config.init_from
    if start is not None and "run" in asked.given:
        raise ConfigError("--run: --init-from says what is judged; leave one of them out")
    if start is None and choice.data is not None and not _is_own_data(words, choice):
        start = str(find_run(choice.run).path)
    if start is None:
        return read_config(EvaluateConfig, words, default=EvaluateConfig()), None
    moved = Moved(choice.data, choice.data_root)
    source = find_source(start, backbone=choice.backbone, moved=moved)
    words = words.over(source.name, source.values)
    default = EvaluateConfig(init_from=source.name)
    return replace(read_config(EvaluateConfig, words, default=default), run="auto"), source


def _is_own_data(words: Words[Files], choice: Choice) -> bool:
    """Whether `--data` says where the images of the run are now, and nothing else of the data."""
    assert choice.data is not None
    usual = EvaluateConfig()
    given = parse_known(EvaluateConfig, words.all, default=usual).given
    return not given & usual.without_effect().keys() and is_data_of(
        find_run(choice.run), choice.data
    )
