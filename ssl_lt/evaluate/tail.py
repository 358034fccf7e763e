"""Which training samples look rare, from what a pretraining without labels remembers of each.

A score a sample is turned so that a high value speaks for a rare pattern: the `rarity`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from ssl_lt.core.groups import Groups

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MEMORISATION, DISAGREEMENT, CLUSTER, COMBINED = (
    "memorisation", "disagreement", "cluster", "combined",
)  # fmt: skip
_TIE_SEED = 0


def rarities(kept: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """The rarity of each sample under each score there is, and under all together.

    Memorisation (arXiv:2205.12693) and disagreement of the dense and the pruned branch
    (arXiv:2106.02990) are high for rare samples as they are; of the cluster it is minus its
    number of samples. `combined` is the mean of the relative ranks under all of them.

    Args:
        kept: name -> (N,) as a run writes them: `memorisation`, `disagreement`, `gh_cluster`
            (-1 unknown); others are passed over.

    Returns:
        Name -> (N,), NaN where unknown. A score that is known of no sample is left out; with none
        at all, the result is empty.
    """
    found = {
        name: kept[name].astype(np.float64) for name in (MEMORISATION, DISAGREEMENT) if name in kept
    }
    if "gh_cluster" in kept:
        found[CLUSTER] = -cluster_sizes(kept["gh_cluster"].astype(np.int64))
    found = {name: rarity for name, rarity in found.items() if np.isfinite(rarity).any()}
    if found:
        found[COMBINED] = mean_rank([relative_rank(rarity) for rarity in found.values()])
    return found


def cluster_sizes(clusters: Integers) -> Floats:
    """(N,) samples in each sample's cluster; NaN where the cluster is -1."""
    known = clusters >= 0
    sizes = np.bincount(clusters[known]).astype(np.float64)
    out = np.full(len(clusters), np.nan)
    out[known] = sizes[clusters[known]]
    return out


def relative_rank(rarity: Floats) -> Floats:
    """`(r - 1/2) / n` of the r-th smallest of n known values; equal values share the mean rank.

    Args:
        rarity: (N,), NaN where unknown.

    Returns:
        (N,) in (0, 1), NaN where unknown.
    """
    known = pd.Series(rarity).where(np.isfinite(rarity))
    ranks: Floats = ((known.rank() - 0.5) / max(1, known.count())).to_numpy()
    return ranks


def mean_rank(ranks: Sequence[Floats]) -> Floats:
    """(N,) mean of those of the (N,) ranks that are known; NaN where none is."""
    means: Floats = pd.DataFrame(ranks).mean().to_numpy()
    return means


def rarest_first(rarity: Floats) -> Integers:
    """(N,) samples by falling rarity; unknown ones last.

    Equal ones come in an order drawn with a fixed seed: rows of a long-tailed subset often stand
    class by class, and their own order would tell the classes apart.
    """
    drawn = np.random.default_rng(_TIE_SEED).permutation(len(rarity))
    keys = np.where(np.isfinite(rarity), -rarity, np.inf)
    order: Integers = np.lexsort((drawn, keys)).astype(np.int64)
    return order


def auc_few_vs_many(score: Floats, labels: Integers, groups: Groups) -> float | None:
    """Probability that a sample of a `few` class has the higher score than one of a `many` class.

    Ties count half; None where a group has no sample.

    Args:
        score: (N,) finite.
        labels: (N,) classes.
        groups: of the classes.
    """
    few, many = np.isin(labels, groups.few), np.isin(labels, groups.many)
    if not few.any() or not many.any():
        return None
    return float(roc_auc_score(few[few | many], score[few | many]))


def frequency_correlation(score: Floats, labels: Integers, counts: Integers) -> float | None:
    """Spearman's correlation with the number of images of the class; None where one is constant.

    Args:
        score: (N,) finite.
        labels: (N,) classes.
        counts: (C,) training images of each class.
    """
    frequencies = counts[labels]
    if len(np.unique(score)) < 2 or len(np.unique(frequencies)) < 2:
        return None
    return float(spearmanr(score, frequencies).statistic)


@dataclass(frozen=True)
class TailScore:
    """How well one rarity finds the `few` classes under one rule.

    Attributes:
        rule: of the groups.
        auc: of few over many; None where a group is empty.
        base_rate: share of `few` samples among those with a score.
        precision_at: (k, share of `few` samples among the k rarest).
    """

    rule: str
    auc: float | None
    base_rate: float
    precision_at: tuple[tuple[int, float], ...]


def score_rarity(
    rarity: Floats, labels: Integers, groups: Groups, *, top: Sequence[int]
) -> TailScore:
    """Compares a rarity with the classes.

    Args:
        rarity: (N,), NaN where unknown; such samples are left out.
        labels: (N,) classes.
        groups: of the classes.
        top: the k of the precision; those above the number of known samples are left out.
    """
    known = np.isfinite(rarity)
    is_few = np.isin(labels, groups.few)
    first = is_few[rarest_first(rarity)]
    return TailScore(
        rule=groups.rule,
        auc=auc_few_vs_many(rarity[known], labels[known], groups),
        base_rate=float(is_few[known].mean()) if known.any() else 0.0,
        precision_at=tuple((k, float(first[:k].mean())) for k in top if 0 < k <= known.sum()),
    )
