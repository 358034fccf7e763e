"""Classifiers on top of several experts: a head each, and one prediction of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.models.classifiers import CosineClassifier


class ExpertClassifiers(nn.Module):
    """One head an expert; the prediction is the mean of their logits (arXiv:2010.01809).

    Args:
        heads: E classifiers, (B, D) -> (B, C).
    """

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def per_expert(self, features: Tensor) -> Tensor:
        """(E, B, C) logits of (B, E * D) features, the experts' one after the other."""
        parts = features.chunk(len(self.heads), dim=1)
        return torch.stack([head(x) for head, x in zip(self.heads, parts, strict=True)])

    def combined(self, expert_logits: Tensor) -> Tensor:
        """(B, C) logits of (E, B, C)."""
        return expert_logits.mean(dim=0)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) logits of (B, E * D) features."""
        return self.combined(self.per_expert(features))


def combined_where_responsible(
    expert_logits: Tensor, responsible: Tensor, scales: Tensor
) -> Tensor:
    """Of each class the mean of the scaled logits `s_e z_e` over the experts responsible for it.

    Args:
        expert_logits: (E, B, C), `z`.
        responsible: (E, C) bool; every class has at least one expert.
        scales: (E,), `s`.

    Returns:
        (B, C).
    """
    weights = responsible * scales[:, None] / responsible.sum(dim=0)
    return (expert_logits * weights[:, None]).sum(dim=0)


class ComplementaryClassifiers(ExpertClassifiers):
    """Heads on groups of classes (arXiv:2108.02385), their logits brought to one scale.

    An expert that saw few images has short weights and so small logits. The paper re-scales them
    before it averages; without code to look at, our scale is `s_e = ||W_1|| / ||W_e||`, both over
    the rows of expert e's classes. Rows of a cosine classifier have one length: `s = 1`.

    Args:
        heads: E classifiers, (B, D) -> (B, C); `weight` is (C, D).
        responsible: (E, C) bool: the classes of each; the first has all.
    """

    responsible: Tensor

    def __init__(self, heads: Sequence[nn.Module], responsible: Tensor) -> None:
        super().__init__(heads)
        # Follows from the data, so it is not saved with the weights.
        self.register_buffer("responsible", responsible, persistent=False)

    def scales(self) -> Tensor:
        """(E,) `s`, without gradient."""
        rows = torch.stack([_effective_weight(head) for head in self.heads])
        squares = rows.square().sum(dim=2)
        own = (squares * self.responsible).sum(dim=1)
        of_first = (squares[0] * self.responsible).sum(dim=1)
        return torch.where(own > 0, (of_first / own).sqrt(), 1.0)

    def combined(self, expert_logits: Tensor) -> Tensor:
        """(B, C) logits of (E, B, C)."""
        return combined_where_responsible(expert_logits, self.responsible, self.scales())


def _effective_weight(head: nn.Module) -> Tensor:
    """(C, D): what the features are multiplied by, up to a factor common to all experts."""
    weight = cast(Tensor, head.weight).detach()
    return F.normalize(weight, dim=1) if isinstance(head, CosineClassifier) else weight


@dataclass(frozen=True)
class ClassifierKind:
    """What a classifier's tensors do not say of it.

    Attributes:
        scale: of a cosine classifier; None: it is linear.
        num_experts: E; 0: it is no ensemble.
        responsible: (E, C) bool, see `ComplementaryClassifiers`; empty: the mean of all counts.
    """

    scale: float | None = None
    num_experts: int = 0
    responsible: tuple[tuple[bool, ...], ...] = ()


def kind_of_classifier(classifier: nn.Module) -> ClassifierKind:
    """What `new_classifier` needs to know of it."""
    heads = list(classifier.heads) if isinstance(classifier, ExpertClassifiers) else []
    first = heads[0] if heads else classifier
    scale = first.scale if isinstance(first, CosineClassifier) else None
    responsible: tuple[tuple[bool, ...], ...] = ()
    if isinstance(classifier, ComplementaryClassifiers):
        responsible = tuple(tuple(row) for row in classifier.responsible.tolist())
    return ClassifierKind(scale, len(heads), responsible)


def new_classifier(kind: ClassifierKind, num_features: int, num_classes: int) -> nn.Module:
    """A classifier of that kind, drawn."""

    def head(width: int) -> nn.Module:
        if kind.scale is None:
            return nn.Linear(width, num_classes)
        return CosineClassifier(width, num_classes, scale=kind.scale)

    if not kind.num_experts:
        return head(num_features)
    heads = [head(num_features // kind.num_experts) for _ in range(kind.num_experts)]
    if not kind.responsible:
        return ExpertClassifiers(heads)
    return ComplementaryClassifiers(heads, torch.tensor(kind.responsible))
