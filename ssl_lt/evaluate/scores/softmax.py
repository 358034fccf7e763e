"""Classes and how sure of them a classifier is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_LARGEST = 1 << 24  # logits that are held at once, 64 MiB of them


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


def answers_by_parts(
    logits: Callable[[Tensor], Tensor], x: Tensor, *, num_classes: int
) -> tuple[Tensor, Tensor]:
    """`softmax_answers` of (N, D) rows, whose (N, C) logits are never held all at once.

    Args:
        logits: (n, D) -> (n, C).
        x: (N, D).
        num_classes: C.
    """
    parts = [
        softmax_answers(logits(rows)) for rows in torch.split(x, max(1, _LARGEST // num_classes))
    ]
    classes, probability = zip(*parts, strict=True)
    return torch.cat(classes), torch.cat(probability)


class Answers(nn.Module):
    """A network that ends in logits, with its `softmax_answers` as the two columns of its output.

    Of thousands of classes, the logits of a whole test split would not fit into memory.

    Args:
        network: (B, 3, S, S) -> (B, C) logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 2): class and probability."""
        return torch.stack([part.float() for part in softmax_answers(self.network(images))], dim=1)
