"""SimCLR with the focal NT-Xent: pairs that are told apart already count less."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.losses.focal_contrast import focal_nt_xent
from ssl_lt.losses.nt_xent import pair_keys
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.simclr import SimCLR
from ssl_lt.pretrain.temperature import TemperatureOptions


@dataclass(frozen=True)
class FocalOptions:
    """Options of the focal contrast."""

    gamma: float = option(2.0, page="all")
    """How steeply easy pairs lose weight; 0: not at all."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < float("inf"):
            raise ConfigError(f"--focal.gamma: {self.gamma}, must be at least 0 and finite")


class Focal(SimCLR):
    """SimCLR whose loss a pair is weighted by `(1 - p)^gamma`.

    Args:
        parts: networks, view and plug-ins.
        temperature: constant or scheduled.
        options: gamma.
        seed: of the run.
    """

    def __init__(
        self,
        parts: TwoViewParts,
        *,
        temperature: TemperatureOptions,
        options: FocalOptions,
        seed: int,
    ) -> None:
        super().__init__(parts, temperature=temperature, seed=seed)
        self.gamma = options.gamma

    def pair_losses(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B,) focal NT-Xent against the views of all ranks."""
        keys = pair_keys(z1, z2)
        return focal_nt_xent(z1, z2, temperature=self.temperature, gamma=self.gamma, keys=keys)
