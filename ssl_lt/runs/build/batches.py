"""Which images are in which step of a run."""

from __future__ import annotations

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.dataset import Data
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.loading.shard_plan import epoch_plan
from ssl_lt.engine.plan import FitOptions
from ssl_lt.runs.config.run import RunOptions


def batch_plan(run: RunOptions, fit: FitOptions, data: Data) -> BatchSchedule:
    """Which images are in which step.

    Raises:
        ConfigError: an epoch has no whole batch, or not as many as an optimiser step adds up.
    """
    rows, options = data.split.indices, data.options
    plan = epoch_plan(data.source.train, rows, options, batch_size=fit.batch_size, seed=run.seed)
    if fit.accumulate_steps > plan.steps_per_epoch:
        raise ConfigError(
            f"--accumulate-steps: {fit.accumulate_steps} batches of {fit.batch_size} are more "
            f"than an epoch has ({plan.steps_per_epoch})"
        )
    return plan
