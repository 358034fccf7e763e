"""The console script: `ssl-lt VERB ...`, and how every command ends."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from ssl_lt.core.disk.text import CLOSED_PIPE, close_broken_streams, write_any_text
from ssl_lt.core.errors import EXIT_CODES, ConfigError
from ssl_lt.engine.signals import Stopped
from ssl_lt.runs.life.failure import as_user_error, is_first_to_fail, say

_USAGE = f"""usage: ssl-lt COMMAND ...                                    each takes --help

  pretrain   learn a representation without labels
  finetune   train a classifier, from a pretrained run or from scratch
  evaluate   kNN and linear probe on the balanced test split, and the report

after training
  predict    the class of each of many images, with its probability: a table
  embed      features of images, and which images are alike
  retrain    other classifiers on a run's frozen features, in seconds
  report     one page that compares runs
  export     a run's network as a folder that timm loads, with a card, and as ONNX
  tail       training images that look rare, without labels, and which to label first

before training
  data       inspect a data set, split it or pack it
  doctor     device, precision, libraries, disk, and what is wrong with them

{EXIT_CODES}"""

_DATA_USAGE = f"""usage: ssl-lt data COMMAND SOURCE ...                        each takes --help

  inspect   classes, sizes, what cannot be read, copies and train/test leaks: a page and JSON
  split     a long-tailed training split and a balanced test split that share no picture
  pack      tar shards of any source; continues where it was stopped

SOURCE is what --data takes elsewhere: cifar100, folder:photos, csv:list.csv.

{EXIT_CODES}"""

_COMMANDS = (
    "pretrain", "finetune", "evaluate", "predict", "embed", "retrain", "report", "tail", "export",
    "data", "doctor",
)  # fmt: skip
_DATA_COMMANDS = ("inspect", "split", "pack")


def main() -> None:
    """Runs the command named by the first word."""
    command, *words = sys.argv[1:] or ["--help"]
    run_command(command, words)


def run_command(command: str, words: list[str] | None = None) -> None:
    """Runs one command and exits with its code: one line on stderr for what a user can mend."""
    words = sys.argv[1:] if words is None else words
    write_any_text()
    try:
        code = _run(command, words)
        sys.stdout.flush()  # here, where a pipe that was closed is known
    except Stopped as stopped:
        close_broken_streams()
        if os.environ.get("RANK", "0") == "0":
            print(f"{stopped}; --resume goes on from there", file=sys.stderr)
        code = stopped.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and close_broken_streams():
            sys.exit(CLOSED_PIPE)
        known = as_user_error(error)
        if known is None:
            is_first_to_fail()  # so that what the others meet because of it is not said
            raise
        say(known)
        code = known.exit_code
    sys.exit(code)


def _run(command: str, words: list[str]) -> int:
    """Finds the command and runs it.

    Raises:
        ConfigError: there is no such command.
    """
    if command in ("--help", "-h"):
        print(_USAGE, end="")
        return 0
    if command == "data":
        if not words or words[0] in ("--help", "-h"):
            print(_DATA_USAGE, end="")
            return 0
        command, *words = words
        module = f"data_{_known(command, _DATA_COMMANDS, of='ssl-lt data')}"
    else:
        module = _known(command, _COMMANDS, of="ssl-lt")
    main: Callable[[list[str]], int] = importlib.import_module(f"ssl_lt.cli.commands.{module}").main
    return main(words)


def _known(name: str, commands: Sequence[str], *, of: str) -> str:
    """The name itself.

    Raises:
        ConfigError: there is no such command.
    """
    if name in commands:
        return name
    nearest = difflib.get_close_matches(name, commands, n=1, cutoff=0.0)[0]
    raise ConfigError(f"unknown command {name!r}, did you mean {nearest}? See {of} --help")
