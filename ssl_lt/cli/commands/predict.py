"""`ssl-lt predict`: the class of each of many images, with its probability."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import Files, read_config, read_simple, read_words
from ssl_lt.runs.config.inference import PredictConfig
from ssl_lt.runs.predict import Predictions, predict

_USAGE = "ssl-lt predict RUN SOURCE [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, PredictConfig(), usage=_USAGE, positional=("--run", "--data"))
    if config is not None:
        predict(config)
    return 0


def run(arguments: Sequence[str]) -> Predictions:
    """What the arguments ask for."""
    words = read_words(arguments, Files())
    return predict(read_config(PredictConfig, words, default=PredictConfig()))
