"""Where a run is kept and what makes it repeatable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Effect, option


@dataclass(frozen=True)
class RunOptions:
    """The run folder and the seed."""

    run_dir: Path | None = option(None, effect=Effect.RUN)
    """Folder of the run. Default: a new one under runs/, named by command, method, data, time."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and the augmentation."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed: {self.seed} is outside 0 ... 2^32 - 1")
