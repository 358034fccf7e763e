"""Checks that options of many places share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_lt.core.errors import ConfigError


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
            flag = f"--{prefix}{name.replace('_', '-')}"
            raise ConfigError(f"{flag}: {value} is below {least}")
