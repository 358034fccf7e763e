"""Large classes cut into sub-classes about as large as the small classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.kmeans import kmeans
from ssl_lt.core.random import seed_of


@dataclass(frozen=True)
class SubClasses:
    """Sub-classes of the training samples, numbered through all classes in their order.

    Attributes:
        labels: (N,) int64 sub-class of each sample, 0 ... K - 1.
        parents: (K,) int64 class of each sub-class, ascending.
    """

    labels: Tensor
    parents: Tensor


def sub_class_counts(counts_per_class: Tensor, *, smallest: int = 10) -> Tensor:
    """(C,) int64 sub-classes a class, `k_c = max(1, n_c // max(min_j n_j, smallest))`.

    Args:
        counts_per_class: (C,) int64 training images of each class, `n`.
        smallest: a sub-class has at least about so many samples (10 in arXiv:2306.15925's code).

    Raises:
        ConfigError: `smallest` below 1.
    """
    if smallest < 1:
        raise ConfigError(f"smallest: {smallest}, must be at least 1")
    size = counts_per_class.min().clamp(min=smallest)
    return (counts_per_class // size).clamp(min=1)


def parents_of(sub_classes_per_class: Tensor) -> Tensor:
    """(K,) int64 class of each sub-class, of (C,) numbers of sub-classes."""
    classes = torch.arange(len(sub_classes_per_class), device=sub_classes_per_class.device)
    return classes.repeat_interleave(sub_classes_per_class)


def cluster_classes(
    features: Tensor,
    labels: Tensor,
    sub_classes_per_class: Tensor,
    *,
    seed: int,
    iterations: int,
) -> SubClasses:
    """K-means inside each class (Wu et al. 2010, "COG: local decomposition for rare classes").

    Args:
        features: (N, D).
        labels: (N,) int64 classes.
        sub_classes_per_class: (C,) int64, `k_c` >= 1.
        seed: of the k-means; each class has a stream of its own.
        iterations: of the k-means.

    Raises:
        ConfigError: a class that has samples, but fewer than sub-classes.
    """
    sub_labels = torch.zeros_like(labels)
    offset = 0
    for number, k in enumerate(sub_classes_per_class.tolist()):
        members = torch.nonzero(labels == number).flatten()
        if len(members):
            clusters = kmeans(
                features[members], k, seed=seed_of(seed, number), iterations=iterations
            )
            sub_labels[members] = offset + clusters
        offset += k
    return SubClasses(sub_labels, parents_of(sub_classes_per_class).to(labels.device))
