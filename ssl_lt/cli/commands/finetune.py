"""`finetune.py`: train a classifier, or several to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_lt.cli.config.command_line import (
    RunFiles,
    Words,
    read_config,
    read_given,
    read_words,
    show_help,
)
from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import rank
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.report.records.results import read_results
from ssl_lt.report.tables.start import start_table
from ssl_lt.report.tables.table import to_rich
from ssl_lt.runs.config.finetune import (
    AnyFinetuneConfig,
    FinetuneConfig,
    default_config,
    kind_of,
    owners_of_other_losses,
)
from ssl_lt.runs.config.parse import Parsed, parse_known
from ssl_lt.runs.config.series import check_compared
from ssl_lt.runs.config.stored import SERIES, stored_finetuning
from ssl_lt.runs.finetune import finetune
from ssl_lt.runs.life.find import run_to_resume
from ssl_lt.runs.life.init_from import InitSource, find_source
from ssl_lt.runs.life.place import Moved
from ssl_lt.runs.life.processes import leave_processes
from ssl_lt.runs.life.same_run import check_resumed
from ssl_lt.runs.life.starts import ComparedStart, brought, compared, find_compared, stored_starts
from ssl_lt.runs.series import run_series, unfinished_series

_USAGE = "finetune.py [--loss LOSS] [--init-from START | --compare START START ...] [OPTIONS]"


@dataclass(frozen=True)
class Choice:
    """What decides which other options there are, and their defaults."""

    loss: str = FinetuneConfig.loss
    init_from: str = FinetuneConfig.init_from
    backbone: str | None = None
    data: str | None = None
    data_root: str | None = None
    compare: tuple[str, ...] = ()


@dataclass(frozen=True)
class Length:
    """What says how long to train."""

    epochs: int | None = None
    budget: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    loss = parse_known(Choice, arguments, default=Choice()).config.loss
    if show_help(arguments, usage=_USAGE, default=default_config(loss), files=RunFiles()):
        return 0
    folder = run(arguments)
    if rank() == 0 and folder.results.is_file():  # those of a series are its members'
        if (table := start_table(read_results(folder.results))) is not None:
            Terminal().print(to_rich(table))
        print(f"next: evaluate.py --run {folder.path}")
    leave_processes()
    return 0


def run(arguments: Sequence[str]) -> RunFolder:
    """The run, or the series of runs, that the arguments ask for, finished."""
    words = read_words(arguments, RunFiles())
    resumed = run_to_resume(words.files.resume, "finetune", SERIES)
    if resumed is not None:
        config = read_resumed(words, resumed)
        if config.series.asked:
            return run_series(config, stored_starts(resumed), resumed=resumed)
        return finetune(config, resumed=resumed)
    new = read_new(words)
    if not new.config.series.asked:
        return finetune(new.config, source=new.source, given=new.given[0])
    begun = unfinished_series(new.config, new.starts) if new.starts else None
    if begun is None:
        return run_series(new.config, new.starts, given=new.given)
    if rank() == 0:
        print(f"{begun.path}: the same comparison, which goes on")
    if new.config.is_timed:  # as it was found then
        return run_series(stored_finetuning(begun.config), stored_starts(begun), resumed=begun)
    return run_series(new.config, new.starts, resumed=begun)


@dataclass(frozen=True)
class New:
    """What a new run, or a new series, is asked to be.

    Attributes:
        config: of the run, or of the series.
        given: flags that the words and the start say, of each start.
        source: the weights; None where starts are compared.
        starts: that are compared.
    """

    config: AnyFinetuneConfig
    given: tuple[frozenset[str], ...]
    source: InitSource | None = None
    starts: tuple[ComparedStart, ...] = ()


def read_new(words: Words[RunFiles]) -> New:
    """The configuration of a new run, with the data and the network of what it starts from."""
    words = _with_one_length(words)
    asked = parse_known(Choice, words.all, default=Choice())
    choice = asked.config
    moved = Moved(choice.data, choice.data_root)
    if not choice.compare:
        source = find_source(choice.init_from, backbone=choice.backbone, moved=moved)
        found = _read(choice, words.over(source.name, source.values))
        return New(replace(found.config, init_from=source.name), (found.given,), source)
    if "init-from" in asked.given:
        raise ConfigError("--compare: names what is started from; leave --init-from out")
    check_compared(choice.compare)
    sources = find_compared(choice.compare, backbone=choice.backbone, moved=moved)
    pairs = zip(sources, brought(sources), strict=True)
    each = [_read(choice, words.over(source.name, values)) for source, values in pairs]
    names = [source.name for source in sources]
    config, starts = compared(names, [found.config for found in each])
    return New(config, tuple(found.given for found in each), starts=starts)


def _with_one_length(words: Words[RunFiles]) -> Words[RunFiles]:
    """The words with --epochs or --budget, whichever is said last.

    A file that says both is of a run: its epochs were found by its budget, and are taken as they
    are.

    Raises:
        ConfigError: both are typed.
    """
    said = parse_known(Length, words.typed, default=Length()).given
    if len(said) == 2:
        raise ConfigError("--budget: --epochs says how long, too; leave one of them out")
    files = list[tuple[Path, Mapping[str, Any]]]()
    for path, values in reversed(words.values):
        own = values.keys() & {"budget", "epochs"}
        dropped = own if said else set()
        files.insert(0, (path, {k: v for k, v in values.items() if k not in dropped}))
        said = said or frozenset(own)
    return replace(words, values=tuple(files))


def _read(choice: Choice, words: Words[RunFiles]) -> Parsed[AnyFinetuneConfig]:
    return read_given(
        kind_of(choice.loss),
        words,
        default=default_config(choice.loss),
        elsewhere=owners_of_other_losses(choice.loss),
    )


def read_resumed(words: Words[RunFiles], run: RunFolder) -> AnyFinetuneConfig:
    """The run's own configuration, with what may differ when it goes on.

    `--init-from auto` was resolved to a path when the run started; that path is in config.yaml.
    """
    stored = stored_finetuning(run.config)
    config: AnyFinetuneConfig = read_config(
        kind_of(stored.loss),
        words,
        default=stored,
        elsewhere=owners_of_other_losses(stored.loss),
    )
    if config.init_from == "auto":
        config = replace(config, init_from=stored.init_from)
    check_resumed(run, stored, config)
    return config
