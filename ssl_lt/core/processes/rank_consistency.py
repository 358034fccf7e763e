"""Processes that were started differently stop before the first step, and say in what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_lt.core.errors import DistributedError
from ssl_lt.core.processes.distributed import gather_objects


def check_ranks_agree(facts: Mapping[str, Any]) -> None:
    """Every process must have the same facts.

    Args:
        facts: name, as the message shows it -> plain value.

    Raises:
        DistributedError: on all processes; names the first fact that differs.
    """
    first, *others = gather_objects(dict(facts))
    for rank, other in enumerate(others, start=1):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise DistributedError(
                    f"{name}: {first.get(name)} in process 0 and {other.get(name)} in process "
                    f"{rank}; start all with the same flags, versions and data"
                )
