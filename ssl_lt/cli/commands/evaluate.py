"""`evaluate.py`: judge a run on the balanced test split, and make its report."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.evaluate import evaluate

_USAGE = "evaluate.py [--run RUN] [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, EvaluateConfig(), usage=_USAGE)
    if config is not None:
        evaluate(config)
    return 0
