"""Learnable weight scaling and tau-normalisation: the length of each class's weights, re-set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lt.finetune.retraining.linear import SGDOptions, fit_layer
from ssl_lt.finetune.retraining.sampling import balanced_rows


class ClassScales(nn.Module):
    """Logits `s_j f_j`: (B, C) logits of a frozen classifier, one factor a class."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.ones(num_classes))

    def forward(self, logits: Tensor) -> Tensor:
        """(B, C) scaled logits."""
        return logits * self.scales


def fit_scales(logits: Tensor, labels: Tensor, *, options: SGDOptions, seed: int) -> ClassScales:
    """Learnable weight scaling, LWS (arXiv:1910.09217, section 4): only `s_j` is learned.

    The paper writes `s_j W_j x`; its code scales the bias too, `s_j (W_j x + b_j)`, and so do we:
    it then works on the logits of any classifier. Class-balanced sampling; weights decay towards 0
    as in the code.

    Args:
        logits: (N, C) of the training images by the frozen classifier.
        labels: (N,) int64.
        options: epochs, rate, batch.
        seed: of the order of the images.

    Raises:
        NumericError: the rate was too high.
    """
    layer = ClassScales(logits.shape[1]).to(logits.device, logits.dtype)
    fit_layer(layer, logits, labels, options=options, sampling=balanced_rows, seed=seed)
    return layer.requires_grad_(requires_grad=False)


def tau_normalised(weight: Tensor, *, tau: float) -> Tensor:
    """`W_j / ||W_j||^tau` (arXiv:1910.09217, section 4); the bias is dropped.

    Args:
        weight: (C, D).
        tau: 0 leaves the lengths, 1 makes them all 1.

    Returns:
        (C, D); a row of zeros stays one.
    """
    norms = weight.norm(dim=1, keepdim=True)
    return weight / torch.where(norms > 0, norms, 1.0) ** tau
