"""The console script: `ssl-lt VERB ...`, and how every command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ssl_lt.cli.failure import as_user_error, is_first_to_fail, say
from ssl_lt.cli.help_pages import kept_page
from ssl_lt.core.errors import EXIT_CODES
from ssl_lt.engine.signals import Stopped

_USAGE = f"""usage: ssl-lt {{pretrain,finetune,evaluate,retrain,report,tail,export,data,doctor}} ...

  pretrain   learn a representation without labels
  finetune   train a classifier, from a pretrained run or from scratch
  evaluate   kNN and linear probe on the balanced test split, and the report
  retrain    other classifiers on a run's frozen features, in seconds
  report     one page that compares runs
  tail       training images that look rare to a run without labels, to label first
  export     a run's network as a folder that timm loads, with a card, and as ONNX
  data       look at a data set, split it or pack it, before training
  doctor     what is installed, and what is wrong with it

Each takes --help.

{EXIT_CODES}"""

_VERBS = (
    "pretrain", "finetune", "evaluate", "retrain", "report", "tail", "export", "data", "doctor",
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
    page = kept_page([verb, *words])
    if page is not None:
        print(page, end="")
        sys.exit(0)
    command: Callable[[list[str]], int] = importlib.import_module(f"ssl_lt.cli.{verb}").main
    try:
        code = command(words)
    except Stopped as stopped:
        if _is_first():
            print(f"{stopped}; --resume goes on from there", file=sys.stderr)
        code = stopped.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        known = as_user_error(error)
        if known is None:
            is_first_to_fail()  # so that what the others meet because of it is not said
            raise
        say(known)
        code = known.exit_code
    sys.exit(code)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"
