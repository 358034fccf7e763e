"""`evaluate.py`: judge a run or released weights on the balanced test split, and make a report."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import Files, read_words, show_help
from ssl_lt.cli.config.judged import read_judged
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.evaluate import evaluate

_USAGE = "evaluate.py [--run RUN | --init-from WEIGHTS --data SOURCE] [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    if not show_help(arguments, usage=_USAGE, default=EvaluateConfig(), files=Files()):
        run(arguments)
    return 0


def run(arguments: Sequence[str]) -> RunFolder:
    """What the arguments name, judged."""
    config, source = read_judged(read_words(arguments, Files()), EvaluateConfig())
    return evaluate(config, source=source)
