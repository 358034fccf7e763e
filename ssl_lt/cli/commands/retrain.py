"""`ssl-lt retrain`: other classifiers on a run's frozen features, in seconds."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.runs.config.retrain import RetrainConfig
from ssl_lt.runs.retrain import retrain

_USAGE = "ssl-lt retrain [RUN] [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, RetrainConfig(), usage=_USAGE, positional=("--run",))
    if config is not None:
        retrain(config)
    return 0
