"""`ssl-lt tail`: which training images look rare, without labels, and which to label first."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import Files, read_words, show_help
from ssl_lt.cli.config.judged import read_judged
from ssl_lt.runs.config.tail import TailConfig
from ssl_lt.runs.tail import tail

_USAGE = "ssl-lt tail [RUN | --init-from WEIGHTS --data SOURCE] [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    if show_help(arguments, usage=_USAGE, default=TailConfig(), files=Files()):
        return 0
    words = read_words(arguments, Files(), positional=("--run",))
    config, source = read_judged(words, TailConfig())
    tail(config, source=source)
    return 0
