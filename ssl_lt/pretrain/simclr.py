"""SimCLR: two views of a sample attract, all other views repel (arXiv:2002.05709)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.nt_xent import nt_xent
from ssl_lt.pretrain.parts import TwoViewParts, pair_keys
from ssl_lt.pretrain.two_views import TwoViewTask


@dataclass(frozen=True)
class SimCLROptions:
    """Options of SimCLR.

    Attributes:
        temperature: divides the cosines; lower looks harder at the nearest negatives.
    """

    temperature: float = 0.2

    def __post_init__(self) -> None:
        check_temperature(self.temperature)


def check_temperature(temperature: float) -> None:
    """Raises ConfigError unless the temperature is above 0."""
    if not temperature > 0:
        raise ConfigError(f"--temperature: {temperature}, must be above 0")


class SimCLR(TwoViewTask):
    """One network embeds both views in one batch, so batch norm sees 2B pictures.

    Args:
        parts: networks, view and plug-ins.
        options: temperature.
        seed: of the run.
    """

    def __init__(self, parts: TwoViewParts, *, options: SimCLROptions, seed: int) -> None:
        super().__init__(parts.view, parts.plugins, seed=seed)
        self.backbone = parts.backbone
        self.projector = parts.projector
        self.options = options

    def embed(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (B, D) of the two views, each (B, 3, S, S)."""
        z: Tensor = self.projector(self.backbone(torch.cat([x1, x2])))
        z1, z2 = z.chunk(2)
        return z1, z2

    def pair_losses(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B,) NT-Xent against the views of all ranks."""
        keys = pair_keys(z1, z2)
        return nt_xent(z1, z2, temperature=self.options.temperature, keys=keys)
