"""Which images to label first: rare ones from all over the features."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.tail.findings import Floats, Integers, rarest_first

_POOL = 0.5  # of all images


def choose_images(features: Features, score: Floats, *, budget: int, seed: int) -> Integers:
    """Greedy k-centre (Gonzalez, 1985) among the half of the images with the highest scores.

    After the first, which is drawn, each image is the one whose most similar chosen image is the
    least similar to it by the cosine. A smaller budget is the beginning of a larger one.

    Args:
        features: of N images, none of them zero.
        score: (N,) high for what looks rare, NaN unknown: the lowest.
        budget: number of images, at most N; the pool is as large if that is more than the half.
        seed: of the first image.

    Returns:
        (budget,) different images in the order in which they were chosen.
    """
    pool = rarest_first(score)[: max(budget, round(_POOL * len(score)))]
    unit = F.normalize(features.features[torch.from_numpy(pool)].float(), dim=1)
    chosen = [int(np.random.default_rng(seed).integers(len(pool)))]
    nearest = unit @ unit[chosen[0]]
    nearest[chosen[0]] = torch.inf
    while len(chosen) < budget:
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, unit @ unit[chosen[-1]])
        nearest[chosen[-1]] = torch.inf  # or copies of what is chosen could be chosen again
    first: Integers = pool[chosen]
    return first
