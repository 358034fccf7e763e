"""`ssl-lt embed`: features of images by any network, and which images are alike."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import Files, read_config, read_simple, read_words
from ssl_lt.runs.config.inference import EmbedConfig
from ssl_lt.runs.embed import Embeddings, embed

_USAGE = "ssl-lt embed RUN_OR_WEIGHTS SOURCE [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(
        arguments, EmbedConfig(), usage=_USAGE, positional=("--init-from", "--data")
    )
    if config is not None:
        embed(config)
    return 0


def run(arguments: Sequence[str]) -> Embeddings:
    """What the arguments ask for."""
    words = read_words(arguments, Files())
    return embed(read_config(EmbedConfig, words, default=EmbedConfig()))
