"""The console script: `ssl-lt VERB ...`, and how every command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ssl_lt.core.errors import UserError
from ssl_lt.engine.signals import Stopped

_USAGE = """usage: ssl-lt {pretrain,finetune,evaluate,retrain,report,tail,export,doctor} ...

  pretrain   learn a representation without labels
  finetune   train a classifier, from a pretrained run or from scratch
  evaluate   kNN and linear probe on the balanced test split, and the report
  retrain    other classifiers on a run's frozen features, in seconds
  report     one page that compares runs
  tail       training images that look rare to a run without labels, to label first
  export     a run's network as a folder that timm loads, with a card, and as ONNX
  doctor     what is installed, and what is wrong with it

Each takes --help. Exit codes: 0 done, 2 configuration, 3 data, 4 checkpoint, 5 not finite,
6 processes disagree, 7 disk, 143 and 130 stopped by a signal with the state saved.
"""

_VERBS = (
    "pretrain", "finetune", "evaluate", "retrain", "report", "tail", "export", "doctor",
)  # fmt: skip


def main() -> None:
    """Runs the verb named by the first word."""
    verb, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if verb in ("--help", "-h"):
        print(_USAGE, end="")
        sys.exit(0)
    if verb not in _VERBS:
        print(f"error: unknown command {verb!r}; see ssl-lt --help", file=sys.stderr)
        sys.exit(2)
    run_verb(verb, words)


def run_verb(verb: str, words: list[str] | None = None) -> None:
    """Runs one command and exits with its code: one line on stderr for what a user can mend."""
    import importlib

    words = sys.argv[1:] if words is None else words
    command: Callable[[list[str]], int] = importlib.import_module(f"ssl_lt.cli.{verb}").main
    try:
        code = command(words)
    except UserError as error:
        # Every rank meets a wrong flag, and one says so; a damaged file may be met by any one.
        if error.exit_code > 2 or _is_first():
            print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except Stopped as stopped:
        if _is_first():
            print(f"{stopped}; --resume goes on from there", file=sys.stderr)
        code = stopped.exit_code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"
