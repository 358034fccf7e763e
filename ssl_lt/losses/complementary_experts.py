"""ACE: experts on nested groups of classes, the rarer the group the slower its expert learns.

No code was released, and the text (arXiv:2108.02385) leaves things open. Expert e is responsible
for the classes `T_e`; the first for all of them. Ours:

- An expert learns from the images of `T_e` alone, and its loss is that of the logits of `T_e`
  alone: other classes are neither in its softmax nor in its priors.
- The logits of its other, interfering classes are drawn to 0 by the mean of their squares; the
  paper has their L2 norm. So the weight means the same for any number of classes.
- The paper scales the learning rate of expert e by `r_e`, its share of the training images. We
  scale its loss, which moves the expert's own weights alone, because only the first expert, with
  `r = 1`, moves the shared part. For SGD, with momentum or without, that is the same but for weight
  decay, which stays as strong as the first expert's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_lt.core.processes.distributed import mean_over_ranks


def interference(logits: Tensor, responsible: Tensor) -> Tensor:
    """`mean_{j not in T} z_j^2` of each sample; 0 where `T` has every class.

    Args:
        logits: (B, C), `z`.
        responsible: (C,) bool, which classes are in `T`.

    Returns:
        (B,).
    """
    others = ~responsible
    return (logits.square() * others).sum(dim=1) / others.sum().clamp(min=1)


def over_own_images(losses: Tensor, own: Tensor) -> Tensor:
    """Losses whose mean over all images is the mean of `losses` over the own ones.

    Args:
        losses: (B,).
        own: (B,) bool; which images count, in this process as in the others.

    Returns:
        (B,), 0 for images that do not count, and everywhere where none does.
    """
    share = mean_over_ranks(own.to(losses.dtype).mean())
    return torch.where(own, losses, 0.0) / torch.where(share > 0, share, 1.0)


class ComplementaryExpertsLoss(nn.Module):
    """`sum_e r_e [ loss_e(z_e[T_e], y) + lambda interference(z_e) ]` of each sample.

    The sum goes over the experts with `y in T_e`, and the terms of expert e are averaged over its
    images in the batch, of all processes. Shapes stay fixed: a loss is given the other images too,
    as if of the first own class, and what it says of them is dropped. One that divides by the mean
    weight of the batch has them in that mean.

    Args:
        losses: one an expert, over its own classes in ascending order: (B, |T_e|) logits, (B,)
            labels counted within `T_e` -> (B,).
        responsible: (E, C) bool.
        rates: (E,) > 0, `r`.
        weight: `lambda`.
    """

    responsible: Tensor
    places: Tensor
    rates: Tensor

    def __init__(
        self, losses: Sequence[nn.Module], responsible: Tensor, rates: Tensor, *, weight: float
    ) -> None:
        super().__init__()
        self.losses, self.weight = nn.ModuleList(losses), weight
        # Follow from the data, so they are not saved with the weights.
        self.register_buffer("responsible", responsible, persistent=False)
        self.register_buffer("rates", rates.float(), persistent=False)
        # Class -> its number within T_e; classes outside T_e point anywhere, they do not count.
        places = (responsible.cumsum(dim=1) - 1).clamp(min=0)
        self.register_buffer("places", places, persistent=False)
        for e, own in enumerate(responsible):
            self.register_buffer(f"classes{e}", torch.nonzero(own).flatten(), persistent=False)

    def forward(self, expert_logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (E, B, C) logits."""
        total = torch.zeros_like(expert_logits[0, :, 0])
        for e, (loss, logits) in enumerate(zip(self.losses, expert_logits, strict=True)):
            own_logits = logits.index_select(1, self.get_buffer(f"classes{e}"))
            losses = loss(own_logits, self.places[e, labels])
            losses = losses + self.weight * interference(logits, self.responsible[e])
            total = total + self.rates[e] * over_own_images(losses, self.responsible[e, labels])
        return total
