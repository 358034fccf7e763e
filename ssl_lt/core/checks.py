"""Checks of numbers that options of many places share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_lt.core.errors import ConfigError

_FAULTS = {
    "(-inf, inf)": "is not finite",
    "(0, inf)": "is not a positive number",
    "[0, inf)": "is negative or not finite",
}


def check_at_least(options: Any, leasts: Mapping[str, int], *, prefix: str = "") -> None:
    """Holds whole numbers against the least they may be; None is one that was not given.

    Args:
        options: has the fields.
        leasts: name of a field -> its least value.
        prefix: of the flags, as "projector.".

    Raises:
        ConfigError: names the flag.
    """
    for name, least in leasts.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"{_flag(prefix + name)}: {value} is below {least}")


def check_range(options: Any, ranges: Mapping[str, str], *, prefix: str = "") -> None:
    """Holds numbers against intervals, in which nan never is; None is one that was not given.

    Args:
        options: has the fields.
        ranges: name of a field -> interval, such as "[0, 1)" or "(0, inf)".
        prefix: of the flags, as "projector.".

    Raises:
        ConfigError: names the flag.
    """
    for name, interval in ranges.items():
        value = getattr(options, name)
        if value is None:
            continue
        low, high = map(float, interval[1:-1].split(", "))
        is_above = low <= value if interval[0] == "[" else low < value
        is_below = value <= high if interval[-1] == "]" else value < high
        if not (is_above and is_below):
            fault = _FAULTS.get(interval, f"is outside {interval}")
            raise ConfigError(f"{_flag(prefix + name)}: {value} {fault}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
