"""A long-tailed training split and a balanced test split that share no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.data.long_tail import make_long_tailed
from ssl_lt.data.sources.source import Source
from ssl_lt.data.splits.balanced_test import balanced_test, number_contents, trainable
from ssl_lt.data.splits.split import Recipe, Split, Withheld
from ssl_lt.data.splits.train_split import make_split, resolve_imbalance


@dataclass(frozen=True)
class SplitPlan:
    """How the two splits are drawn.

    Attributes:
        test_part: "train" or "test": the part that the test images are drawn from.
        test_per_class: test images of each class; None: as many as the smallest class has.
        profile: of the training images, see `resolve_imbalance`.
        imbalance_factor: of the training images; None: all that the test split leaves.
        seed: which images are drawn.
    """

    test_part: str
    test_per_class: int | None
    profile: str
    imbalance_factor: float | None
    seed: int


def plan_splits(
    source: Source,
    *,
    test_from: Literal["auto", "train", "test"],
    test_per_class: int | None,
    imbalance: str,
    imbalance_factor: float | None,
    seed: int,
) -> SplitPlan:
    """What will be drawn from where; settled before every image is decoded.

    Args:
        source: with labels; no test set is held out of its training images.
        test_from: part that the test images are drawn from; "auto": the test set if there is one.
        test_per_class: see `SplitPlan`.
        imbalance: as `--imbalance`.
        imbalance_factor: as `--imbalance-factor`.
        seed: which images are drawn.

    Raises:
        ConfigError: no labels, no test set where one is asked for, a flag that is missing.
    """
    if not source.class_names:
        raise ConfigError(f"--data: {source.name} has no labels, and data split needs them")
    if test_from == "test" and source.test is None:
        raise ConfigError(f"--test-from test: {source.name} has no test set")
    part: str = test_from
    if part == "auto":
        part = "train" if source.test is None else "test"
    if part == "train" and test_per_class is None:
        raise ConfigError(
            "--test-per-class: say how many training images of each class to keep for testing"
        )
    profile, factor = resolve_imbalance(imbalance, imbalance_factor, source)
    return SplitPlan(part, test_per_class, profile, factor, seed)


def make_splits(
    plan: SplitPlan, source: Source, stats: Mapping[str, Sequence[ImageStats]]
) -> tuple[Split, Split]:
    """Draws the test images first; copies of them are then left out of the training images.

    Args:
        plan: of `plan_splits`.
        source: with labels; no test set is held out of its training images.
        stats: of `describe_all`.

    Returns:
        The training split and the test split.

    Raises:
        DataError: a class has too few images; names it and the source.
        ConfigError: a factor that leaves a class without images.
    """
    names = source.class_names
    contents = dict(zip(stats, number_contents(list(stats.values())), strict=True))
    test_table, train_contents = source.parts[plan.test_part], contents["train"]
    try:
        test_rows = balanced_test(
            test_table.labels.numpy(),
            contents[plan.test_part],
            class_names=names,
            per_class=plan.test_per_class,
            seed=plan.seed,
        )
        test_contents = contents[plan.test_part][test_rows]
        labels = trainable(
            source.train.labels.numpy(), train_contents, tested=test_contents, class_names=names
        )
    except DataError as error:
        raise DataError(f"{source.name}: {error}") from error
    rows = np.flatnonzero(labels >= 0)
    if plan.imbalance_factor is not None:
        rows = make_long_tailed(
            labels,
            num_classes=len(names),
            profile=plan.profile,
            imbalance_factor=plan.imbalance_factor,
            seed=plan.seed,
        )
    recipe = Recipe(plan.profile, plan.imbalance_factor, plan.seed)
    train = make_split(source, source.train, recipe, rows)
    withheld = np.flatnonzero(np.isin(train_contents, test_contents) | (train_contents < 0))
    test = make_split(source, test_table, Recipe("balanced", None, plan.seed), test_rows)
    return train, replace(test, withheld=Withheld(source.train.fingerprint(), withheld))
