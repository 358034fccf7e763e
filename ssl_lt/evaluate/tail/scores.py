"""How rare each image looks to a frozen network: one number an image, higher for the rarer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.search import nearest_images
from ssl_lt.evaluate.tail.clusters import cluster_images
from ssl_lt.evaluate.tail.findings import Floats

Cosines = NDArray[np.float32]

NUM_CLUSTERS = 100  # a few images to a few hundred each in collections of usual size
NUM_LOGITS = 10  # as in COLT's released code, and its temperature
_TEMPERATURE = 0.2
_ROWS_AT_ONCE = 1024


def neighbour_cosines(features: Features, *, k: int) -> Cosines:
    """(N, min(k, N - 1)) cosines of each image to its nearest other images, descending.

    Raises:
        DataError: a single image, or a feature vector that is zero or not finite.
    """
    if len(features) < 2:
        raise DataError(f"{len(features)} training image: a rare one needs others to differ from")
    k = min(k, len(features) - 1)
    # The most similar of all is the image itself; where a copy comes first, it is as similar.
    return nearest_images(features, features, k=k + 1)[0][:, 1:]


def density_score(cosines: Cosines) -> Floats:
    """(N,) mean cosine distance to the nearest images: high where the features are thinly spread.

    Args:
        cosines: (N, k) of `neighbour_cosines`.
    """
    score: Floats = 1 - cosines.mean(axis=1, dtype=np.float64)
    return score


def cluster_score(features: Features, *, seed: int) -> Floats:
    """(N,) share of the images that are in other clusters than this one: high in small clusters.

    Args:
        features: of the images.
        seed: of k-means, with `NUM_CLUSTERS` clusters, or one an image where there are fewer.
    """
    num_clusters = min(NUM_CLUSTERS, len(features))
    clusters = cluster_images(features, num_clusters=num_clusters, seed=seed)
    return 1 - np.bincount(clusters)[clusters] / len(features)


def tailness_score(features: Features, cosines: Cosines) -> Floats:
    """(N,) one minus COLT's tailness (arXiv:2306.04934), which is low for rare images.

    With cosines c and t = 0.2 it is `sum_(10 nearest j) e^(c_ij / t) / sum_j e^(c_ij / t)`. COLT
    sums over the images of a batch and averages over epochs; here all images are compared once.
    The term j = i stands for the second view of the image.

    Args:
        features: of the images.
        cosines: (N, k) of `neighbour_cosines`.
    """
    unit = F.normalize(features.features.float(), dim=1)
    sums = [
        torch.exp(rows @ unit.T / _TEMPERATURE).sum(dim=1)
        for rows in torch.split(unit, _ROWS_AT_ONCE)
    ]
    nearest = np.exp(cosines[:, :NUM_LOGITS].astype(np.float64) / _TEMPERATURE).sum(axis=1)
    tailness: Floats = 1 - nearest / torch.cat(sums).double().numpy()
    return tailness


def disagreement_score(dense: Features, pruned: Features) -> Floats:
    """(N,) cosine distance between the features of a network and of its pruned copy.

    Args:
        dense: features of the network.
        pruned: of the same images by the copy.
    """
    cosines = F.cosine_similarity(dense.features.double(), pruned.features.double(), dim=1)
    score: Floats = 1 - cosines.numpy()
    return score
