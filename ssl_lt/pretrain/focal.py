"""SimCLR with the focal NT-Xent: pairs that are told apart already count less."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.focal_contrast import focal_nt_xent
from ssl_lt.pretrain.parts import TwoViewParts, pair_keys
from ssl_lt.pretrain.simclr import SimCLR, SimCLROptions


@dataclass(frozen=True)
class FocalOptions(SimCLROptions):
    """Options of the focal contrast.

    Attributes:
        gamma: how steeply easy pairs lose weight; 0, or at least 1.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma != 0 and not self.gamma >= 1:
            raise ConfigError(f"--gamma: {self.gamma}, must be 0 or at least 1")


class Focal(SimCLR):
    """SimCLR whose loss a pair is weighted by `(1 - p)^gamma`.

    Args:
        parts: networks, view and plug-ins.
        options: temperature and gamma.
        seed: of the run.
    """

    def __init__(self, parts: TwoViewParts, *, options: FocalOptions, seed: int) -> None:
        super().__init__(parts, options=options, seed=seed)
        self.gamma = options.gamma

    def pair_losses(self, z1: Tensor, z2: Tensor) -> Tensor:
        """(B,) focal NT-Xent against the views of all ranks."""
        keys = pair_keys(z1, z2)
        return focal_nt_xent(z1, z2, temperature=self.temperature, gamma=self.gamma, keys=keys)
