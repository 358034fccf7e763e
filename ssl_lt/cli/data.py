"""`ssl-lt data`: look at a data set, split it, pack it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence

from ssl_lt.core.errors import EXIT_CODES, ConfigError

_USAGE = f"""usage: ssl-lt data {{inspect,split,pack}} SOURCE ...

  inspect   classes, sizes, what cannot be read, copies and train/test leaks: a page and JSON
  split     a long-tailed training split and a balanced test split that share no picture
  pack      parquet or tar shards of any source; goes on where it was stopped

SOURCE is what --data takes elsewhere: cifar100, folder:photos, csv:list.csv. Each takes --help.

{EXIT_CODES}"""

_COMMANDS = ("inspect", "split", "pack")


def main(arguments: Sequence[str]) -> int:
    """Runs one of the three; see `--help`."""
    if not arguments or arguments[0] in ("--help", "-h"):
        print(_USAGE, end="")
        return 0
    name, *words = arguments
    if name not in _COMMANDS:
        nearest = difflib.get_close_matches(name, _COMMANDS, n=1, cutoff=0.0)[0]
        raise ConfigError(f"data: unknown command {name!r}, did you mean {nearest}?")
    command: Callable[[list[str]], int] = importlib.import_module(f"ssl_lt.cli.data_{name}").main
    return command(words)
