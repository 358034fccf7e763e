"""Confidence intervals where test images belong together: a bootstrap over their groups.

Several images of one patient are right or wrong together, so that resampling images would tell
intervals that are too narrow. Groups are drawn with replacement, as many as there are, among those
whose rarest class (the one that is in the fewest groups) is the same: of groups of one class each
that is a bootstrap stratified by class, and of groups of one image each it is `bootstrap`. A class
that a resample has no image of is left out of the means of that resample.

NumPy and SciPy only: a report reads these numbers where no torch is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.scores.correct_mask import CorrectMask, unpack_correct, unpack_groups
from ssl_lt.evaluate.scores.intervals import (
    BootstrapOptions,
    Intervals,
    Resampled,
    joined,
    minus,
    percentiles,
    shapes,
    statistics_of,
)

Integers = NDArray[np.int64]
Rights = NDArray[np.bool_] | NDArray[np.float64]
_DEFAULT = BootstrapOptions()


@dataclass(frozen=True, eq=False)
class GroupedAnswers:
    """What a classifier said of test images that belong together.

    Attributes:
        right: (N,) which images are right, or in which share of several tries.
        labels: (N,) true classes.
        group_ids: (N,) equal where images belong together.
    """

    right: Rights
    labels: Integers
    group_ids: Integers


def grouped_answers(
    mask: CorrectMask, num_test: Sequence[int], *, test_groups: str = ""
) -> GroupedAnswers:
    """What a results file keeps of a classifier, class by class.

    Args:
        mask: which images are right.
        num_test: (C,) test images of each class.
        test_groups: which images belong together, see `pack_groups`; "": each is on its own.
    """
    number = sum(num_test)
    right, ids = unpack_correct(mask, num_images=number), np.arange(number)
    if test_groups:
        ids = unpack_groups(test_groups, num_images=number)
    return GroupedAnswers(right, np.repeat(np.arange(len(num_test)), num_test), ids)


@lru_cache(maxsize=256)
def mask_intervals(
    mask: CorrectMask, num_test: tuple[int, ...], test_groups: str, groups: tuple[Groups, ...]
) -> Intervals:
    """`group_bootstrap` of `grouped_answers`."""
    kept = grouped_answers(mask, num_test, test_groups=test_groups)
    return group_bootstrap(
        kept.right, kept.labels, kept.group_ids, num_classes=len(num_test), groups=groups
    )


def group_bootstrap(
    right: Rights,
    labels: Integers,
    group_ids: Integers,
    *,
    num_classes: int,
    groups: Sequence[Groups] = (),
    options: BootstrapOptions = _DEFAULT,
) -> Intervals:
    """Percentile intervals of the balanced accuracy, each group of classes, and their std.

    Args:
        right: (N,) which test images are right, or in which share of several tries.
        labels: (N,) true classes.
        group_ids: (N,) equal where images belong together.
        num_classes: C.
        groups: rules that split the classes.
        options: of the draws.

    Raises:
        DataError: other shapes, or no test image.
    """
    random = np.random.default_rng(options.seed)
    answers = GroupedAnswers(right, labels, group_ids)
    (found,) = _resampled(random, answers, [right], num_classes, groups, options)
    return percentiles(found, groups, options.level)


def paired_group_difference(
    before: GroupedAnswers,
    after: Rights,
    *,
    num_classes: int,
    groups: Sequence[Groups] = (),
    options: BootstrapOptions = _DEFAULT,
) -> Intervals:
    """Intervals of `after` minus `before` on the same test images, drawn for both at once."""
    random = np.random.default_rng(options.seed)
    rights = [before.right, after]
    first, second = _resampled(random, before, rights, num_classes, groups, options)
    return percentiles(minus(second, first), groups, options.level)


def unpaired_group_difference(
    before: GroupedAnswers,
    after: GroupedAnswers,
    *,
    num_classes: int,
    groups: Sequence[Groups] = (),
    options: BootstrapOptions = _DEFAULT,
) -> Intervals:
    """Intervals of `after` minus `before` as if on separate test sets."""
    random = np.random.default_rng(options.seed)
    (first,), (second,) = (
        _resampled(random, one, [one.right], num_classes, groups, options)
        for one in (before, after)
    )
    return percentiles(minus(second, first), groups, options.level)


def _resampled(
    random: np.random.Generator,
    answers: GroupedAnswers,
    rights: Sequence[Rights],
    num_classes: int,
    groups: Sequence[Groups],
    options: BootstrapOptions,
) -> list[Resampled]:
    """Statistics of each of several classifiers in the same resamples."""
    labels = answers.labels
    if not labels.size or any(len(r) != labels.size for r in (*rights, answers.group_ids)):
        raise DataError(f"bootstrap: {len(answers.right)} answers to {labels.size} test images")
    group, start, number = _by_stratum(answers.group_ids, labels, num_classes)

    def by_group(weight: Rights) -> Any:
        """(G, C) sums of what the images of each group and class weigh."""
        entries = weight.astype(np.float64), (group, labels)
        return csr_array(entries, shape=(len(start), num_classes))

    sizes, hits = by_group(np.ones(labels.size)), [by_group(right) for right in rights]
    num_test = np.bincount(labels, minlength=num_classes)
    parts: list[list[Resampled]] = [[] for _ in hits]
    num_groups = len(start)
    for rows, _ in shapes(options.num_resamples, max(num_groups, num_classes)):
        place = start + random.integers(0, number, size=(rows, num_groups))
        place += num_groups * np.arange(rows)[:, None]
        drawn = np.bincount(place.ravel(), minlength=rows * num_groups).reshape(rows, num_groups)
        times = csr_array(drawn.astype(np.float64))
        images = (times @ sizes).toarray()
        for part, right in zip(parts, hits, strict=True):
            unknown = np.full(images.shape, np.nan)
            share = np.divide((times @ right).toarray(), images, out=unknown, where=images > 0)
            part.append(statistics_of(share, num_test, groups, mean=_mean_of_known))
    return [joined(part) for part in parts]


def _by_stratum(
    group_ids: Integers, labels: Integers, num_classes: int
) -> tuple[Integers, Integers, Integers]:
    """Numbers of groups in the order of their strata.

    Returns:
        (N,) the number of each image's group; (G,) the number at which the stratum of each group
        starts; (G,) how many groups that has.
    """
    group = np.unique(group_ids, return_inverse=True)[1]
    pairs = np.unique(group * num_classes + labels)  # which classes each group has
    of_group, of_class = pairs // num_classes, pairs % num_classes
    num_groups = np.bincount(of_class, minlength=num_classes)
    order = np.lexsort((of_class, num_groups[of_class], of_group))
    first = np.unique(of_group[order], return_index=True)[1]
    rarest = of_class[order][first]
    by_stratum = np.argsort(rarest, kind="stable")
    number = np.empty_like(by_stratum)
    number[by_stratum] = np.arange(len(by_stratum))
    strata = rarest[by_stratum]
    return number[group], np.searchsorted(strata, strata), np.bincount(strata)[strata]


def _mean_of_known(per_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where nothing is known; `numpy.nanmean` warns of that."""
    known = np.isfinite(per_class)
    total = np.where(known, per_class, 0).sum(axis=1)
    unknown = np.full(len(per_class), np.nan)
    means: NDArray[np.float64] = np.divide(
        total, known.sum(axis=1), out=unknown, where=known.any(axis=1)
    )
    return means
