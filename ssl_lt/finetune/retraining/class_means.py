"""Nearest class mean: nothing is learned but where each class lies."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.kmeans import cluster_means

Normalisation = Literal["un", "l2n", "cl2n"]
Similarity = Literal["l2", "cos"]


def nearest_mean_logits(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    normalisation: Normalisation,
    similarity: Similarity,
) -> Tensor:
    """How near each query is to the mean feature of each class (arXiv:1910.09217, section 4).

    "un" takes features and means as they are; "l2n" puts queries and means on the unit sphere;
    "cl2n" first subtracts the mean of all training features. "l2" is minus the squared distance;
    "cos" is the dot product over D, as in the authors' code, so it is a cosine where both are of
    unit length. Their code averages normalised features where the paper normalises the average;
    we follow the paper, by which "l2" and "cos" agree on the sphere.

    Args:
        queries: (M, D).
        features: (N, D) of the training images.
        labels: (N,) int64.
        num_classes: C.
        normalisation: of queries and means.
        similarity: what is near.

    Returns:
        (M, C); minus infinity for a class without training images.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    means = cluster_means(features, labels, num_classes)
    if normalisation == "cl2n":
        centre = features.mean(dim=0)
        queries, means = queries - centre, means - centre
    if normalisation != "un":
        queries, means = F.normalize(queries, dim=1), F.normalize(means, dim=1)
    dots = queries @ means.T
    if similarity == "cos":
        near = dots / features.shape[1]
    else:
        near = 2 * dots - queries.square().sum(dim=1, keepdim=True) - means.square().sum(dim=1)
    return near.masked_fill(counts == 0, -torch.inf)
