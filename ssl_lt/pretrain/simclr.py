"""SimCLR: two views of a sample attract, all other views repel (arXiv:2002.05709)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.types import Epoch
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

    scheduled: Tensor

    def __init__(self, parts: TwoViewParts, *, temperature: TemperatureOptions, seed: int) -> None:
        super().__init__(parts.view, parts.plugins, seed=seed)
        self.backbone = parts.backbone
        self.projector = parts.projector
        self.schedule = temperature
        # On the device and not a Python number, so that a compiled step is not compiled anew.
        first = torch.tensor(temperature_at(temperature, 0))
        self.register_buffer("scheduled", first, persistent=False)

    @property
    def temperature(self) -> float | Tensor:
        """Of the epoch under way; with a schedule it is a scalar on the device."""
        is_constant = self.schedule.temperature_max is None
        return self.schedule.temperature if is_constant else self.scheduled

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Sets the temperature, too."""
        super().on_epoch_start(epoch)
        self.scheduled.fill_(temperature_at(self.schedule, epoch.number))

    def embed(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (B, D) of the two views, each (B, 3, S, S)."""
        z: Tensor = self.projector(self.backbone(torch.cat([x1, x2])))
        z1, z2 = z.chunk(2)
        return z1, z2

    def pair_losses(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B,) NT-Xent against the views of all ranks."""
        keys = pair_keys(z1, z2)
        return nt_xent(z1, z2, temperature=self.temperature, keys=keys)
