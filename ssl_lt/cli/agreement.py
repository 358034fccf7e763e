"""Processes that were started differently stop before the first step, and say in what."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from ssl_lt.cli.fields import to_mapping
from ssl_lt.core.distributed import gather_objects
from ssl_lt.core.errors import DistributedError
from ssl_lt.data.split import Split
from ssl_lt.engine.run_folder import RunFolder

# What each machine may have of its own: where its data is, and how many cores decode it.
_OWN = {"data-root", "num-workers", "shard-cache", "shard-cache-mib"}
_VERSIONS = ("ssl_lt", "torch", "torchvision", "timm", "accelerate")


def check_configuration(config: Any, resumed: RunFolder | None = None) -> None:
    """Every process must have been started with the same flags, on the same versions.

    Args:
        config: of this process, resolved.
        resumed: the run that goes on, if one does.

    Raises:
        DistributedError: on all processes; names the first flag or version that differs.
    """
    flags = {f"--{k}": v for k, v in to_mapping(config).items() if k not in _OWN}
    flags["--resume"] = None if resumed is None else str(resumed.path)
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    _agree({**flags, **versions, "Python": platform.python_version()})


def check_split(split: Split) -> None:
    """Every process must have found the same data, and train on the same rows of it.

    Raises:
        DistributedError: on all processes; names what differs.
    """
    _agree(
        {
            "rows of --data": split.num_rows,
            "SHA-256 of --data": split.data_sha256,
            "SHA-256 of the rows trained on": split.sha256,
        }
    )


def _agree(facts: Mapping[str, Any]) -> None:
    first, *others = gather_objects(dict(facts))
    for rank, other in enumerate(others, start=1):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise DistributedError(
                    f"{name}: {first.get(name)} in process 0 and {other.get(name)} in process "
                    f"{rank}; start all with the same flags, versions and data"
                )
