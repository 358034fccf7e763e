"""The typed configuration of `ssl-lt tail`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_lt.core.errors import ConfigError


@dataclass(frozen=True)
class TailConfig:
    """Rank training images by what a pretraining kept of each: ssl-lt tail [RUN] [flags].

    Writes a list to label first (tail.csv, rarest first), a page with both of its ends, and,
    where the classes are known, how well the list finds the rare ones.
    """

    run: str = "auto"
    """Folder of a pretraining run; auto: the newest run under runs/."""
    score: Literal["memorisation", "disagreement", "cluster", "combined"] = "combined"
    """memorisation (--plugins bcl), disagreement (--method sdclr), cluster: samples in its cluster
    (--plugins gh), or the mean of the ranks under those that the run kept."""
    top: int = 64
    """Images shown of each end of the list."""
    epoch: int | None = None
    """Whose scores; none: the last."""
    output: Path | None = None
    """Folder to write; none: tail/ in the run's folder."""
    data: str | None = None
    """Where the run's images are now, if they have moved (same syntax as --data of pretrain.py)."""
    data_root: str | None = None
    """Or a folder that they are in now."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ConfigError(f"--top: {self.top}, must be at least 1")
        if self.epoch is not None and self.epoch < 1:
            raise ConfigError(f"--epoch: {self.epoch}, the first is 1")
