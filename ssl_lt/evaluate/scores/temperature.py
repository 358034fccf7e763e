"""One temperature on the logits, so that probabilities are as high as the answers are right."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.errors import DataError

LOWEST, HIGHEST = 0.01, 100.0
_MOST_STEPS = 100
_STANDARD_ERRORS = 1.0


def fit_temperature(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> float:
    """The temperature T of least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    `-sum_i w_i log softmax(f_i / T)[y_i]` is convex in 1 / T, so Newton's steps, halving an
    interval where one leaves it, find the least. Where it is no more than one standard error better
    than no temperature, as with few images of the rare classes, the images cannot tell, and T is 1.
    Nor can they where all are right, as few images often are by chance: any lower T is better then.

    Args:
        logits: (N, C), `f`, of images that were not trained on.
        labels: (N,) int64, `y`.
        weights: (N,) `w`, which make classes as likely as they are under the prior of the logits;
            None: they are.

    Returns:
        T in [0.01, 100].

    Raises:
        DataError: no image, or a logit that is not finite.
    """
    if not len(logits) or not bool(logits.isfinite().all()):
        raise DataError("temperature: needs images with finite logits, and there are none")
    f = logits.double()
    f = f - f.max(dim=1, keepdim=True).values
    w = f.new_ones(len(f)) if weights is None else weights.double()
    w = w / w.sum()
    if bool((f.gather(1, labels[:, None]) == 0).all()):
        return 1.0
    found = _least(f, labels, w)
    gained = _losses(f, labels, 1.0) - _losses(f, labels, 1 / found)
    mean = (w * gained).sum()
    error = (w * (gained - mean)).square().sum().sqrt()
    return found if mean > _STANDARD_ERRORS * error else 1.0


def _losses(f: Tensor, labels: Tensor, inverse: float) -> Tensor:
    return -torch.log_softmax(inverse * f, dim=1).gather(1, labels[:, None])[:, 0]


def _least(f: Tensor, labels: Tensor, w: Tensor) -> float:
    right = f.gather(1, labels[:, None])[:, 0]

    def derivatives(inverse: float) -> tuple[float, float]:
        p = torch.softmax(inverse * f, dim=1)
        mean = (p * f).sum(dim=1)
        variance = (p * f.square()).sum(dim=1) - mean.square()
        return float((w * (mean - right)).sum()), float((w * variance).sum())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if derivatives(low)[0] >= 0:
        return HIGHEST
    if derivatives(high)[0] <= 0:
        return LOWEST
    inverse = 1.0
    for _ in range(_MOST_STEPS):
        slope, curvature = derivatives(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else low
        step = step if low < step < high else (low * high) ** 0.5
        if abs(step - inverse) <= 1e-10 * inverse:
            break
        inverse = step
    return 1 / inverse


def probabilities(
    logits: Tensor, *, temperature: float = 1.0, log_shift: Tensor | None = None
) -> Tensor:
    """(N, C) `softmax(f / T + log q - log p)`.

    Args:
        logits: (N, C), `f`: their softmax is the posterior under the prior p.
        temperature: `T`.
        log_shift: (C,) `log q - log p`, with the prior q that is wanted; None: p itself.

    Returns:
        float32, on the CPU.
    """
    scaled = logits.double() / temperature
    return torch.softmax(scaled if log_shift is None else scaled + log_shift, dim=1).float().cpu()
