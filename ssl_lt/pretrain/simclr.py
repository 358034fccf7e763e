"""SimCLR: two views of a sample attract, all other views repel (arXiv:2002.05709)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.losses.nt_xent import nt_xent, pair_keys
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.temperature import TemperatureOptions, temperature_at
from ssl_lt.pretrain.two_views import TwoViewTask


class SimCLR(TwoViewTask):
    """One network embeds both views in one batch, so batch norm sees 2B pictures.

    Args:
        parts: networks, view and plug-ins.
        temperature: constant or scheduled.
        seed: of the run.
    """

    def __init__(self, parts: TwoViewParts, *, temperature: TemperatureOptions, seed: int) -> None:
        super().__init__(parts.view, parts.plugins, seed=seed)
        self.backbone = parts.backbone
        self.projector = parts.projector
        self.schedule = temperature

    @property
    def temperature(self) -> float:
        """Of the epoch under way."""
        return temperature_at(self.schedule, self.epoch.number)

    def embed(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (B, D) of the two views, each (B, 3, S, S)."""
        z: Tensor = self.projector(self.backbone(torch.cat([x1, x2])))
        z1, z2 = z.chunk(2)
        return z1, z2

    def pair_losses(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B,) NT-Xent against the views of all ranks."""
        keys = pair_keys(z1, z2)
        return nt_xent(z1, z2, temperature=self.temperature, keys=keys)
