"""`ssl-lt data split`: a long-tailed training split and a balanced test split, as files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.core.checks import check_at_least
from ssl_lt.core.disk.folders import new_folder
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.data.curate.describe import describe_all
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_complete
from ssl_lt.data.splits.make import make_splits, plan_splits
from ssl_lt.data.splits.split import Split, write_split
from ssl_lt.report.tables.table import COUNT, Table, number_columns, text_columns, to_rich
from ssl_lt.runs.config.schema import to_mapping

TRAIN, TEST = "train.json", "test.json"

_USAGE = "ssl-lt data split SOURCE [OPTIONS]"


@dataclass(frozen=True)
class SplitConfig(SourceOptions):
    """Make a long-tailed training and a balanced test split: ssl-lt data split SOURCE [flags].

    Writes train.json and test.json, for --split and --test-split of every command. Looks at every
    image: no picture (its decoded pixels) is in both, none is tested on twice or under two classes,
    and unreadable images are in neither.
    """

    imbalance: Literal["exponential", "step", "pareto", "none"] = option(
        "exponential", group="splits"
    )
    """Profile of the class sizes that the training images are reduced to (none = use all that the
    test split leaves)."""
    imbalance_factor: float | None = option(None, group="splits")
    """Images of the largest class divided by those of the smallest. Default: the source's own;
    otherwise the training images are used as they are."""
    test_per_class: int | None = option(None, group="splits")
    """Number of test images of each class. Default: as many as the smallest class of the test set
    has."""
    test_from: Literal["auto", "train", "test"] = option("auto", group="splits")
    """Part that the test images are drawn from (auto = the test set if there is one)."""
    seed: int = option(0, group="splits")
    """Seed that chooses which images are drawn."""
    output: Path | None = option(None, group="output")
    """Folder to write, which must not exist. Default: splits/ and the name of the source."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        if self.imbalance_factor is not None and not 1 <= self.imbalance_factor < float("inf"):
            raise ConfigError(f"--imbalance-factor {self.imbalance_factor:g}: must be 1 or more")
        check_at_least(self, {"test_per_class": 1})
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed}: must be in 0 ... 2^32 - 1")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, SplitConfig(), usage=_USAGE, positional=("--data",))
    if config is None:
        return 0
    source = open_complete(config.data, config)
    output = config.output or Path("splits") / source.file_name
    if output.exists():
        raise ConfigError(f"--output: {output} exists and is never overwritten")
    plan = plan_splits(
        source,
        test_from=config.test_from,
        test_per_class=config.test_per_class,
        imbalance=config.imbalance,
        imbalance_factor=config.imbalance_factor,
        seed=config.seed,
    )
    train, test = make_splits(plan, source, describe_all(source))
    with new_folder(output) as folder:
        write_split(folder / TRAIN, train)
        write_split(folder / TEST, test)
    Console().print(to_rich(_table(train, test, plan.test_part)))
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
    names = [name for name in default if given[name] != default[name]]
    said = [f"--{name}={given[name]}" for name in names if name not in ("data", "download")]
    files = ["--split", str(output / TRAIN), "--test-split", str(output / TEST)]
    return shlex.join(["--data", config.data, *said, *files])
