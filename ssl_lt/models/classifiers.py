"""Classifiers on top of a backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear_classifier(num_features: int, num_classes: int) -> nn.Linear:
    """A linear layer, its weights from N(0, 2 / num_features) as in the CIFAR ResNets' heads."""
    layer = nn.Linear(num_features, num_classes)
    nn.init.kaiming_normal_(layer.weight)
    return layer


class CosineClassifier(nn.Module):
    """Logits `s cos(x, w_j)`: no class gains from a long weight vector.

    Args:
        num_features: D.
        num_classes: C.
        scale: `s`; 30 is what balanced contrastive learning (arXiv:2207.09052) uses.
    """

    def __init__(self, num_features: int, num_classes: int, *, scale: float = 30.0) -> None:
        super().__init__()
        weight = torch.empty(num_classes, num_features).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(weight, dim=1))
        self.scale = scale

    @torch.no_grad()
    def start_at(self, class_means: Tensor) -> None:
        """Sets the weights to (C, D) means, at norm 1; as LIFT (arXiv:2309.10019) starts."""
        self.weight.copy_(F.normalize(class_means, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) logits of (B, D) features of any norm."""
        # Half-precision cosines times 30 would be off by a tenth of a logit.
        with torch.autocast(features.device.type, enabled=False):
            if features.dtype in (torch.float16, torch.bfloat16):
                features = features.float()
            cosines = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
            return self.scale * cosines
