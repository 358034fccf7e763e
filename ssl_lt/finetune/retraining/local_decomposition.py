"""COG: large classes are cut into sub-classes, told apart, and put together again."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ssl_lt.finetune.retraining.linear import SGDOptions, fit_linear
from ssl_lt.finetune.retraining.sampling import instance_rows
from ssl_lt.losses.subclasses import cluster_classes, sub_class_counts

Merge = Literal["max", "sum"]
_ITERATIONS = 35  # of the k-means; it stops earlier where no point moves


def parent_scores(logits: Tensor, parents: Tensor, *, num_classes: int, merge: Merge) -> Tensor:
    """(N, C) probabilities of classes from (N, K) logits of their sub-classes.

    Args:
        logits: of the sub-classes.
        parents: (K,) int64 class of each.
        num_classes: C.
        merge: "max": that of its likeliest sub-class; "sum": of all of them together.
    """
    p = logits.softmax(dim=1)
    reduce = "amax" if merge == "max" else "sum"
    empty = p.new_zeros(len(p), num_classes)
    return empty.scatter_reduce(1, parents.expand_as(p), p, reduce)


def fit_decomposed(
    features: Tensor,
    labels: Tensor,
    counts_per_class: Tensor,
    *,
    options: SGDOptions,
    seed: int,
) -> tuple[nn.Linear, Tensor]:
    """Classification using local clustering (Wu et al. 2010, "COG: local decomposition").

    K-means cuts each class into `n_c // max(min_j n_j, 10)` sub-classes, about as large as the
    small classes. A linear classifier learns to tell the sub-classes apart, each image equally
    often, for they are about balanced; `parent_scores` puts together what it says. The paper
    takes the class of the winning sub-class, which is "max", and support vector machines.

    Args:
        features: (N, D) of the training images.
        labels: (N,) int64.
        counts_per_class: (C,) int64.
        options: of the classifier.
        seed: of the clusters and the order of the images.

    Returns:
        The classifier of K sub-classes, and (K,) int64 the class of each.

    Raises:
        NumericError: the rate was too high.
    """
    sub_classes = cluster_classes(
        features,
        labels,
        sub_class_counts(counts_per_class),
        seed=seed,
        iterations=_ITERATIONS,
    )
    layer = fit_linear(
        features,
        sub_classes.labels,
        num_classes=len(sub_classes.parents),
        options=options,
        sampling=instance_rows,
        seed=seed,
    )
    return layer, sub_classes.parents
