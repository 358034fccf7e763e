"""Several fine-tuning runs in one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option

Stage = Literal["contrast", "classifier", "all"]


@dataclass(frozen=True)
class SeriesOptions:
    """Several runs in one command, in one folder; --resume goes on where it was left."""

    seeds: tuple[int, ...] = ()
    """Train once with each and report mean and standard deviation; none: --seed alone."""
    compare_scratch: bool = False
    """Also train from scratch with the same budget, and report which classes gained and lost."""
    stages: tuple[Stage, ...] = option((), page="all")
    """Train one after the other: contrast (no classifier yet), classifier (on the frozen backbone;
    logit adjustment, where the loss is more than a classification), all (what the loss says)."""
    stage_epochs: tuple[int, ...] = option((), page="all")
    """Epochs of each stage; none: --epochs each."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"--seeds: {' '.join(map(str, self.seeds))} names one twice")
        if any(not 0 <= seed < 2**32 for seed in self.seeds):
            raise ConfigError("--seeds: one is outside 0 ... 2^32 - 1")
        if self.stage_epochs and len(self.stage_epochs) != len(self.stages):
            raise ConfigError(
                f"--stage-epochs: {len(self.stage_epochs)} numbers for {len(self.stages)} stages"
            )
        if any(epochs < 1 for epochs in self.stage_epochs):
            raise ConfigError("--stage-epochs: each must be at least 1")

    @property
    def asked(self) -> bool:
        """More than one run."""
        return bool(self.seeds or self.compare_scratch or self.stages)
