"""`ssl-lt data split`: a long-tailed training split and a balanced test split, as files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.core.disk.folders import create_dir_atomically
from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.disk.yaml_file import as_words
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.data.curate.describe import describe_all
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_complete
from ssl_lt.data.splits.make import SplitOptions, make_splits, resolve
from ssl_lt.data.splits.split import Split, write_split
from ssl_lt.report.tables.table import COUNT, Table, number_columns, text_columns, to_rich
from ssl_lt.runs.config.schema import to_mapping

TRAIN, TEST = "train.json", "test.json"

_USAGE = "ssl-lt data split SOURCE [OPTIONS]"


@dataclass(frozen=True)
class SplitConfig(SplitOptions):
    """Make a long-tailed training and a balanced test split: ssl-lt data split SOURCE [flags].

    Writes train.json and test.json, for --split and --test-split of every command. Looks at every
    image: no picture (its decoded pixels) is in both, none is tested on twice or under two classes,
    and unreadable images are in neither.
    """

    output: Path | None = option(None, group="output")
    """Folder to write, which must not exist. Default: splits/ and the name of the source."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, SplitConfig(), usage=_USAGE, positional=("--data",))
    if config is None:
        return 0
    source = open_complete(config.data, config)
    output = config.output or Path("splits") / source.file_name
    if output.exists():
        raise ConfigError(f"--output: {output} exists and is never overwritten")
    resolved = resolve(config, source)
    train, test = make_splits(resolved, source, describe_all(source))
    with create_dir_atomically(output) as folder:
        write_split(folder / TRAIN, train)
        write_split(folder / TEST, test)
    Terminal().print(to_rich(_table(train, test, resolved.test_from)))
    print(f"next: pretrain.py {_flags(config, output)}")
    return 0


def _table(train: Split, test: Split, test_part: str) -> Table:
    counts = [split.counts_per_class for split in (train, test)]
    return Table(
        title=f"Splits of {train.source}",
        note=f"The test images are of its {test_part} part. SHA-256 of the rows.",
        columns=(
            *text_columns("Split", "SHA-256"),
            *number_columns(COUNT, "Images", "Largest class", "Smallest class"),
        ),
        rows=tuple(
            (name, split.sha256[:12], sum(n), max(n), min(n))
            for name, split, n in zip(("train", "test"), (train, test), counts, strict=True)
        ),
    )


def _flags(config: SplitConfig, output: Path) -> str:
    """With which the other commands use the files."""
    given, default = to_mapping(config), to_mapping(SourceOptions())
    left = ("data", "download")
    options = as_words({n: given[n] for n in default if given[n] != default[n] and n not in left})
    files = ["--split", str(output / TRAIN), "--test-split", str(output / TEST)]
    return shlex.join(["--data", config.data, *options, *files])
