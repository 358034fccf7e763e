"""Classes and how sure of them a classifier is."""

from __future__ import annotations

from torch import Tensor


def softmax_answers(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class of each row and its probability under the softmax.

    Args:
        logits: (N, C) on any device.

    Returns:
        (N,) int64 classes and (N,) float32 probabilities, on the CPU.
    """
    largest, classes = logits.float().max(dim=1, keepdim=True)
    probability = 1 / (logits.float() - largest).exp().sum(dim=1)
    return classes[:, 0].cpu(), probability.cpu()
