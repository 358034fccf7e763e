"""`ssl-lt data split`: a long-tailed training split and a balanced test split, as files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.core.folders import new_folder
from ssl_lt.data.curate.inspection import Look
from ssl_lt.data.curate.opened import OpenSource, look_at_all, open_whole
from ssl_lt.data.long_tail import thin
from ssl_lt.data.options import SourceFlags
from ssl_lt.data.splits.balanced_test import balanced_test, number_contents, trainable
from ssl_lt.data.splits.split import Recipe, Split, Withheld, write_split
from ssl_lt.data.splits.train_split import make_split, thinning
from ssl_lt.report.tables.table import Table, to_rich
from ssl_lt.runs.config.schema import flags, to_mapping

TRAIN, TEST = "train.json", "test.json"

_USAGE = "ssl-lt data split SOURCE [OPTIONS]"


@dataclass(frozen=True)
class SplitConfig(SourceFlags):
    """Make a long-tailed training and a balanced test split: ssl-lt data split SOURCE [flags].

    Writes train.json and test.json, for --split and --test-split of every command. Looks at every
    image: no picture (its decoded pixels) is in both, none is tested on twice or under two classes,
    and unreadable images are in neither.
    """

    imbalance: Literal["exponential", "step", "pareto", "none"] = "exponential"
    """By which the training images are thinned; none: all that the test split leaves."""
    imbalance_factor: float | None = None
    """Images of the largest class over those of the smallest; not given: the source's own, or else
    the training images are taken as they are."""
    test_per_class: int | None = None
    """Test images of each class; not given: as many as the smallest class of the test set has."""
    test_from: Literal["auto", "train", "test"] = "auto"
    """Part that the test images are drawn from; auto: the test set where there is one."""
    seed: int = 0
    """Which images are drawn."""
    output: Path | None = None
    """Folder to write; none: splits/ and the name of the source. Never overwritten."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        if self.imbalance_factor is not None and not 1 <= self.imbalance_factor < float("inf"):
            raise ConfigError(f"--imbalance-factor {self.imbalance_factor:g}: must be 1 or more")
        if self.test_per_class is not None and self.test_per_class < 1:
            raise ConfigError(f"--test-per-class {self.test_per_class}: must be 1 or more")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed}: must be in 0 ... 2^32 - 1")


@dataclass(frozen=True)
class _Plan:
    """The part that test images are drawn from, and how training images are thinned."""

    tested_part: str
    profile: str
    imbalance_factor: float | None


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, SplitConfig(), usage=_USAGE, positional=("--data",))
    if config is None:
        return 0
    opened = open_whole(config)
    output = config.output or Path("splits") / opened.file_name
    if output.exists():
        raise ConfigError(f"--output: {output} exists and is never overwritten")
    plan = _plan(config, opened)
    train, test = _draw(plan, opened, look_at_all(opened), config)
    with new_folder(output) as folder:
        write_split(folder / TRAIN, train)
        write_split(folder / TEST, test)
    Console().print(to_rich(_table(train, test, plan.tested_part)))
    print(f"next: pretrain.py {_flags(config, output)}")
    return 0


def _plan(config: SplitConfig, opened: OpenSource) -> _Plan:
    """What will be drawn from where, settled before every image is looked at.

    Raises:
        ConfigError: no labels, no test set where one is asked for, a flag that is missing.
    """
    source = opened.source
    if not source.class_names:
        raise ConfigError(f"--data: {source.name} has no labels, and data split needs them")
    if config.test_from == "test" and opened.test is None:
        raise ConfigError(f"--test-from test: {source.name} has no test set")
    part = config.test_from
    if part == "auto":
        part = "train" if opened.test is None else "test"
    if part == "train" and config.test_per_class is None:
        raise ConfigError(
            "--test-per-class: say how many training images of each class to keep for testing"
        )
    profile, factor = thinning(config.imbalance, config.imbalance_factor, source)
    return _Plan(part, profile, factor)


def _draw(
    plan: _Plan, opened: OpenSource, looks: Mapping[str, Sequence[Look]], config: SplitConfig
) -> tuple[Split, Split]:
    """The test images first; what has their pixels is then not trained on.

    Raises:
        DataError: a class has too few images; names it and the source.
        ConfigError: a factor that leaves a class without images.
    """
    source, names = opened.source, opened.source.class_names
    contents = dict(zip(looks, number_contents(list(looks.values())), strict=True))
    tested = opened.parts[plan.tested_part]
    try:
        test_rows = balanced_test(
            tested.labels.numpy(),
            contents[plan.tested_part],
            class_names=names,
            per_class=config.test_per_class,
            seed=config.seed,
        )
        labels = trainable(
            opened.train.labels.numpy(),
            contents["train"],
            tested=contents[plan.tested_part][test_rows],
            class_names=names,
        )
    except DataError as error:
        raise DataError(f"{source.name}: {error}") from error
    rows = np.flatnonzero(labels >= 0)
    if plan.imbalance_factor is not None:
        rows = thin(
            labels,
            num_classes=len(names),
            profile=plan.profile,
            imbalance_factor=plan.imbalance_factor,
            seed=config.seed,
        )
    recipe = Recipe(plan.profile, plan.imbalance_factor, config.seed)
    test = make_split(source, tested, Recipe("balanced", None, config.seed), test_rows)
    same = np.isin(contents["train"], contents[plan.tested_part][test_rows])
    withheld = np.flatnonzero(same | (contents["train"] < 0))
    test = replace(test, withheld=Withheld(opened.train.fingerprint(), withheld))
    return make_split(source, opened.train, recipe, rows), test


def _table(train: Split, test: Split, tested_part: str) -> Table:
    counts = [split.counts_per_class for split in (train, test)]
    return Table(
        title=f"Splits of {train.source}",
        note=f"The test images are of its {tested_part} part. SHA-256 of the rows.",
        columns=("Split", "SHA-256", "Images", "Largest class", "Smallest class"),
        rows=tuple(
            (name, split.sha256[:12], f"{sum(n):,}", f"{max(n):,}", f"{min(n):,}")
            for name, split, n in zip(("train", "test"), (train, test), counts, strict=True)
        ),
        num_text_columns=2,
    )


def _flags(config: SplitConfig, output: Path) -> str:
    """With which the other commands use the files."""
    given = to_mapping(config)
    names = [flag.name for flag in flags(SourceFlags()) if given[flag.name] is not None]
    said = [f"--{name}={given[name]}" for name in names if name not in ("data", "download")]
    files = ["--split", str(output / TRAIN), "--test-split", str(output / TEST)]
    return shlex.join(["--data", config.data, *said, *files])
