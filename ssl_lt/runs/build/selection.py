"""What a run needs that chooses an epoch, or stops, by its validation images."""

from __future__ import annotations

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import Data
from ssl_lt.engine.plan import FitOptions


def check_selection(fit: FitOptions, data: Data, *, every: int, flag: str, others: str) -> None:
    """Refuses to choose by anything but validation images.

    Args:
        fit: whether anything is chosen.
        data: of the run.
        every: epochs between measurements; 0: none.
        flag: that says so.
        others: ways to get validation images beside --val-data; "" where there are none.

    Raises:
        ConfigError: there are no validation images, or nothing is measured.
    """
    if not fit.selects:
        return
    asked = "--keep best" if fit.keep == "best" else f"--early-stop {fit.early_stop}"
    if not data.has_validation:
        raise ConfigError(
            f"{asked}: {data.source.name} has no validation images to choose by: give "
            f"--val-data{others}"
        )
    if not every:
        raise ConfigError(f"{asked}: {flag} 0 measures nothing to choose by")
