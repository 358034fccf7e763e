"""Is this the same run? Of a run that goes on, and of the processes of one run."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any, TypeVar

from ssl_lt.core.errors import ConfigError, shortened
from ssl_lt.core.options import Effect
from ssl_lt.core.processes.rank_consistency import check_ranks_agree
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.plan import Identity
from ssl_lt.runs.config.schema import differences, names_with, to_mapping
from ssl_lt.runs.config.stored import TrainConfig, effective_mapping

T = TypeVar("T", bound=TrainConfig)

# What may be otherwise when a run goes on.
_FREE = (Effect.RUN, Effect.MACHINE, Effect.PLACE)
_VERSIONS = ("ssl_lt", "torch", "torchvision", "timm", "accelerate")


def check_resumed(run: RunFolder, was: TrainConfig, asked: TrainConfig) -> None:
    """A run that goes on keeps its configuration, but for what no weight and no log depends on.

    Raises:
        ConfigError: names the options that were asked to be otherwise, with both values.
    """
    before, now = (effective_mapping(config, but_for=_FREE) for config in (was, asked))
    if changed := differences(before, now):
        raise ConfigError(
            f"{run.path}: {shortened(changed)}: a resumed run keeps its configuration"
        )


def identity(config: TrainConfig, *, data_sha256: str) -> Identity:
    """What the checkpoints of a run remember of it; see `Identity`.

    What a run starts from is left out: nothing depends on it where there is a checkpoint, and a
    series that was moved says otherwise where its stages begin.
    """
    return Identity(effective_mapping(config, but_for=(*_FREE, Effect.START)), data_sha256)


def check_processes(config: Any, resumed: RunFolder | None = None) -> None:
    """Every process must have been started with the same flags, on the same versions.

    Args:
        config: of this process, resolved.
        resumed: the run that goes on, if one does.

    Raises:
        DistributedError: on all processes; names the first flag or version that differs.
    """
    own = names_with(config, Effect.MACHINE)
    facts = {f"--{name}": value for name, value in to_mapping(config).items() if name not in own}
    facts["--resume"] = None if resumed is None else str(resumed.path)
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    check_ranks_agree({**facts, **versions, "Python": platform.python_version()})
