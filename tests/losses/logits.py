"""Logits and labels for the losses that take nothing else."""

from __future__ import annotations

import numpy as np
import torch

COUNTS = torch.tensor([500, 60, 9, 1], dtype=torch.float64)


def batch(num=7, classes=4):
    """(num, classes) logits in double precision that want a gradient, and labels."""
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(num, classes, generator=g, dtype=torch.float64, requires_grad=True)
    return logits, torch.randint(classes, (num,), generator=g)


def golden_batch(found, classes, name="logits"):
    """Logits, labels and counts of golden numbers."""
    logits = torch.tensor(found[f"{name}{classes}"], requires_grad=True)
    counts = torch.tensor(found[f"cls_num{classes}"], dtype=torch.float64)
    return logits, torch.tensor(found[f"labels{classes}"]), counts


def weighted_mean(losses, labels, weights):
    """What `torch.nn.CrossEntropyLoss(weight=weights)` makes of losses."""
    weights = torch.as_tensor(weights)[labels]
    return (weights * losses).sum() / weights.sum()


def assert_golden(found, key, loss, logits):
    """The loss and its gradient are `<key>_loss` and `<key>_grad`."""
    np.testing.assert_allclose(loss.item(), found[f"{key}_loss"], rtol=1e-10)
    (grad,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(grad, found[f"{key}_grad"], rtol=1e-9, atol=1e-14)
