"""`pretrain.py`: learn a representation without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ssl_lt.cli.config.command_line import (
    RunFiles,
    Words,
    read_config,
    read_given,
    read_words,
    show_help,
)
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import rank
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.report.records.results import read_results
from ssl_lt.runs.config.parse import Parsed, parse_known
from ssl_lt.runs.config.pretrain import PretrainConfig, spelled_out
from ssl_lt.runs.config.stored import stored_pretraining
from ssl_lt.runs.life.extension import carried_over, check_kept, earlier_run
from ssl_lt.runs.life.find import run_to_resume
from ssl_lt.runs.life.init_from import InitSource, find_source
from ssl_lt.runs.life.place import Moved
from ssl_lt.runs.life.processes import leave_processes
from ssl_lt.runs.life.same_run import check_resumed
from ssl_lt.runs.pretrain import pretrain

_USAGE = "pretrain.py [--method METHOD] [--plugins P ...] [--data SOURCE] [OPTIONS]"


@dataclass(frozen=True)
class Choice:
    """What decides the defaults of other options."""

    init_from: str = PretrainConfig.init_from
    backbone: str | None = None
    extend: str | None = None
    data: str | None = None
    data_root: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    if show_help(arguments, usage=_USAGE, default=PretrainConfig(), files=RunFiles()):
        return 0
    folder = run(arguments)
    if rank() == 0:
        print(_next(folder))
    leave_processes()
    return 0


def _next(folder: RunFolder) -> str:
    """What can be done with a finished run; without labels, on a labelled set alone."""
    if read_results(folder.results).data.class_names:
        return "next: finetune.py or evaluate.py"
    return (
        f"next: evaluate.py --run {folder.path} --data LABELLED, or finetune.py --init-from "
        f"{folder.path} --data LABELLED"
    )


def run(arguments: Sequence[str]) -> RunFolder:
    """The run that the arguments ask for, finished."""
    config, source, resumed = read(arguments)
    return pretrain(config, source=source, resumed=resumed)


def read(arguments: Sequence[str]) -> tuple[PretrainConfig, InitSource | None, RunFolder | None]:
    """The configuration, the weights of a new run, and the run that goes on if one does."""
    words = read_words(arguments, RunFiles())
    resumed = run_to_resume(words.files.resume, "pretrain")
    if resumed is not None:
        return read_resumed(words, resumed), None, resumed
    return *read_new(words), None


def read_new(words: Words[RunFiles]) -> tuple[PretrainConfig, InitSource | None]:
    """The configuration of a new run, with the images and the network that its weights expect."""
    asked = parse_known(Choice, words.all, default=Choice())
    choice = asked.config
    if choice.extend is not None:
        return read_extended(words, asked), None
    moved = Moved(choice.data, choice.data_root)
    source = find_source(choice.init_from, backbone=choice.backbone, moved=moved)
    words = words.over(source.name, source.values)
    config = spelled_out(read_config(PretrainConfig, words, default=PretrainConfig()))
    return replace(config, init_from=source.name), source


def read_extended(words: Words[RunFiles], asked: Parsed[Choice]) -> PretrainConfig:
    """The configuration of the run that is extended, with what is asked for otherwise.

    Raises:
        ConfigError: `--epochs` is missing, `--init-from` is there, or the state does not fit.
    """
    assert asked.config.extend is not None
    if "init-from" in parse_known(Choice, words.typed, default=Choice()).given:
        raise ConfigError("--init-from: --extend goes on from all of a run; leave one of them out")
    earlier = earlier_run(asked.config.extend)
    default = carried_over(earlier, Moved(asked.config.data, asked.config.data_root))
    asked_for = read_given(PretrainConfig, words, default=default)
    config = spelled_out(asked_for.config, stored=earlier.config)
    if "epochs" not in asked_for.given:
        raise ConfigError("--extend: say with --epochs how many more")
    check_kept(earlier, config)
    return replace(config, extend=default.extend)


def read_resumed(words: Words[RunFiles], run: RunFolder) -> PretrainConfig:
    """The run's own configuration, with what may differ when it goes on."""
    stored = stored_pretraining(run.config)
    config = spelled_out(read_config(PretrainConfig, words, default=stored), stored=stored)
    if config.init_from == "auto":
        config = replace(config, init_from=stored.init_from)
    check_resumed(run, stored, config)
    return config
