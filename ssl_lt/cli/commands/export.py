"""`ssl-lt export`: a run's network as a folder that timm loads, with a model card, and as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.runs.config.export import ExportConfig
from ssl_lt.runs.export import export

_USAGE = "ssl-lt export [RUN] [OPTIONS]"


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, ExportConfig(), usage=_USAGE, positional=("--run",))
    if config is not None:
        export(config)
    return 0
