"""A long-tailed training split and a balanced test split that share no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.core.options import option
from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.data.long_tail import check_imbalance_factor, make_long_tailed
from ssl_lt.data.options import Profile, WholeSourceOptions
from ssl_lt.data.sources.source import Source
from ssl_lt.data.splits.balanced_test import balanced_test, number_contents, trainable
from ssl_lt.data.splits.split import Recipe, Split, Withheld
from ssl_lt.data.splits.train_split import make_split, resolve_imbalance


@dataclass(frozen=True)
class SplitOptions(WholeSourceOptions):
    """How the two splits are drawn."""

    imbalance: Profile = option("exponential", group="splits")
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

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        check_imbalance_factor(self.imbalance_factor)
        check_at_least(self, {"test_per_class": 1})
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed}: must be in 0 ... 2^32 - 1")


def resolve(options: SplitOptions, source: Source) -> SplitOptions:
    """The same with the part, profile and factor that they mean for a source.

    Settled before every image is decoded.

    Args:
        options: as given.
        source: no test set is held out of its training images.

    Raises:
        ConfigError: no labels, no test set where one is asked for, a flag that is missing.
    """
    if not source.class_names:
        raise ConfigError(f"--data: {source.name} has no labels, and data split needs them")
    part = options.test_from
    if part == "test" and source.test is None:
        raise ConfigError(f"--test-from test: {source.name} has no test set")
    if part == "auto":
        part = "train" if source.test is None else "test"
    if part == "train" and options.test_per_class is None:
        raise ConfigError(
            "--test-per-class: say how many training images of each class to keep for testing"
        )
    profile, factor = resolve_imbalance(options.imbalance, options.imbalance_factor, source)
    return replace(options, test_from=part, imbalance=profile, imbalance_factor=factor)


def make_splits(
    options: SplitOptions, source: Source, stats: Mapping[str, Sequence[ImageStats]]
) -> tuple[Split, Split]:
    """Draws the test images first; their copies and groups are left out of the training images.

    Args:
        options: of `resolve`.
        source: as there.
        stats: of `describe_all`.

    Returns:
        The training split and the test split.

    Raises:
        DataError: a class has too few images; names it and the source.
        ConfigError: a factor that leaves a class without images.
    """
    names = source.class_names
    contents = dict(zip(stats, number_contents(list(stats.values())), strict=True))
    test_table, train_contents = source.parts[options.test_from], contents["train"]
    try:
        test_rows = balanced_test(
            test_table.labels.numpy(),
            contents[options.test_from],
            class_names=names,
            per_class=options.test_per_class,
            seed=options.seed,
            # Other groups than those of its own are left for training beside a test set.
            group_ids=source.train.group_ids if options.test_from == "train" else None,
        )
        barred = np.isin(train_contents, [*contents[options.test_from][test_rows], -1])
        if source.train.group_ids is not None and test_table.group_ids is not None:
            tested = test_table.group_ids.numpy()[test_rows]
            barred |= np.isin(source.train.group_ids.numpy(), tested)
        labels = trainable(source.train.labels.numpy(), barred, class_names=names)
    except DataError as error:
        raise DataError(f"{source.name}: {error}") from error
    rows = np.flatnonzero(labels >= 0)
    if options.imbalance_factor is not None:
        rows = make_long_tailed(
            labels,
            num_classes=len(names),
            profile=options.imbalance,
            imbalance_factor=options.imbalance_factor,
            seed=options.seed,
        )
    recipe = Recipe(options.imbalance, options.imbalance_factor, options.seed)
    train = make_split(source, source.train, recipe, rows)
    test = make_split(source, test_table, Recipe("balanced", None, options.seed), test_rows)
    withheld = Withheld(source.train.fingerprint(), np.flatnonzero(barred))
    return train, replace(test, withheld=withheld)
