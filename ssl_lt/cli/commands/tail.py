"""`ssl-lt tail`: which training images look rare, without labels, to label them first."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.runs.config.tail import TailConfig
from ssl_lt.runs.tail import tail

_USAGE = "ssl-lt tail [RUN] [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, TailConfig(), usage=_USAGE, positional=("--run",))
    if config is not None:
        tail(config)
    return 0
