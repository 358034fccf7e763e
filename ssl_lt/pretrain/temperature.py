"""Temperature of a contrastive loss: constant, or a cosine over the epochs.

Kukleva et al. (2023), "Temperature schedules for self-supervised contrastive methods on
long-tail data", arXiv:2303.13664: a high temperature lets groups form, a low one tells
instances apart, and going to and fro serves both head and tail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option


@dataclass(frozen=True)
class TemperatureOptions:
    """Temperature of a contrastive loss, constant or scheduled.

    Raises:
        ConfigError: a temperature or a period that is not positive, or a maximum below the
            temperature.
    """

    temperature: float = 0.2
    """Temperature of the contrastive loss. With a schedule: its minimum (0.1 in the paper)."""
    temperature_max: float | None = option(None, page="all")
    """Maximum of a cosine schedule (1.0 in the paper). Default: a constant temperature."""
    temperature_period: float = option(400.0, page="all")
    """Epochs from one maximum of the schedule to the next."""

    def __post_init__(self) -> None:
        check_range(self, dict.fromkeys(("temperature", "temperature_period"), "(0, inf)"))
        if self.temperature_max is not None and not (
            self.temperature <= self.temperature_max < math.inf
        ):
            raise ConfigError(
                f"--temperature-max: {self.temperature_max}, must not be below --temperature"
            )

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        return {"temperature-period": "--temperature-max"} if self.temperature_max is None else {}


def temperature_at(options: TemperatureOptions, epoch: float) -> float:
    """t_min + (t_max - t_min) (1 + cos(2 pi epoch / T)) / 2, Alg. 1 of arXiv:2303.13664.

    Args:
        options: t_min, t_max and the period T in epochs.
        epoch: counted from 0, where the schedule stands at its maximum; may be a fraction.
    """
    if options.temperature_max is None:
        return options.temperature
    swing = 0.5 * (options.temperature_max - options.temperature)
    turn = 2 * math.pi * epoch / options.temperature_period
    return options.temperature + swing * (1 + math.cos(turn))
