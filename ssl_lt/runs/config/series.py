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
    compare: tuple[str, ...] = ()
    """Fine-tune from each of these, named as for --init-from, everything else alike, and compare
    them in one table and page. Each brings its network, image size, learning rate and epochs,
    unless flags say otherwise; the first run among them brings the data, and the first with weights
    the network of scratch. The same command goes on where it was stopped."""
    stages: tuple[Stage, ...] = option((), page="all")
    """Train one after the other: contrast (no classifier yet), classifier (on the frozen backbone;
    logit adjustment, where the loss is more than a classification), all (what the loss says)."""
    stage_epochs: tuple[int, ...] = option((), page="all")
    """Epochs of each stage; none: --epochs each."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"--seeds: {' '.join(map(str, self.seeds))} names one twice")
        check_compared(self.compare)
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
        return bool(self.seeds or self.compare or self.stages)


def check_compared(starts: tuple[str, ...]) -> None:
    """Raises ConfigError where there is nothing to compare, or one start is named twice."""
    if len(starts) == 1:
        other = "auto" if starts[0] == "scratch" else "scratch"
        raise ConfigError(
            f"--compare: {starts[0]} alone; add what to compare it with, such as {other}"
        )
    for start in starts:
        if starts.count(start) > 1:
            raise ConfigError(f"--compare: {start} is named twice")
