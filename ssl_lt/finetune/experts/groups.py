"""Which classes each of several complementary experts is responsible for."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.long_tail import groups_by_count


def nested_groups(
    counts_per_class: Tensor, *, num_experts: int, rule: Literal["thirds", "counts"]
) -> Tensor:
    """All classes for the first expert, ever rarer ones for those after it.

    Args:
        counts_per_class: (C,) training images.
        num_experts: E; 3 where `rule` is "counts".
        rule: "thirds": expert e (from 0) has the E - e of E equal parts of the classes that have
            the fewest images, the remainder going to the most frequent; with three experts these
            are the groups by thirds. "counts": at most 100 images, and fewer than 20.

    Returns:
        (E, C) bool.

    Raises:
        ConfigError: an expert is left without a class.
    """
    counts = counts_per_class.cpu()
    responsible = torch.zeros(num_experts, len(counts), dtype=torch.bool)
    responsible[0] = True
    if rule == "counts":
        groups = groups_by_count(counts.numpy())
        responsible[1, list(groups.medium)] = True
        responsible[1:, list(groups.few)] = True
    else:
        order = torch.argsort(counts, stable=True)
        for e in range(1, num_experts):
            responsible[e, order[: (num_experts - e) * (len(counts) // num_experts)]] = True
    empty = torch.nonzero(~responsible.any(dim=1)).flatten().tolist()
    if empty:
        field = "--expert-groups: counts" if rule == "counts" else f"--num-experts: {num_experts}"
        raise ConfigError(
            f"{field} leaves expert {empty[0] + 1} of {num_experts} without a class "
            f"(there are {len(counts)}, of {int(counts.max())} to {int(counts.min())} images)"
        )
    return responsible


def image_shares(counts_per_class: Tensor, responsible: Tensor) -> Tensor:
    """(E,) float32: the share of all training images that are of each expert's classes."""
    counts = counts_per_class.to(torch.float64)
    return ((responsible * counts).sum(dim=1) / counts.sum()).float()
