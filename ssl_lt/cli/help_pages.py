"""Pages of `--help`, kept as text: reading one takes a tenth of a second, importing torch two.

Options stand beside the torch code that they belong to, so to make a page is to import torch. A
page shows a command with nothing chosen; with other flags beside `--help` it is made on the spot.
`python scripts/write_help.py` makes all of them anew, and a test compares.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from pathlib import Path

# A command whose page would take long to make is one line here.
COMMANDS = (
    "pretrain", "finetune", "evaluate", "retrain", "tail", "export", "data inspect", "data split",
    "data pack",
)  # fmt: skip


def page_file(command: str) -> Path:
    """Where the page of "pretrain" or "data inspect" is kept."""
    return Path(__file__).parent / "help" / f"{command.replace(' ', '-')}.txt"


def kept_page(words: Sequence[str]) -> str | None:
    """The page that a command line such as `data inspect --help` asks for.

    None where it asks for something else, or for a page that is not kept.
    """
    *command, last = words
    if last not in ("--help", "-h") or " ".join(command) not in COMMANDS:
        return None
    return page_file(" ".join(command)).read_text("utf-8")


def made_page(command: str) -> str:
    """The same page, made by the command itself, as wide as `COLUMNS` in the environment says."""
    verb, *words = command.split()
    main = importlib.import_module(f"ssl_lt.cli.{verb}").main
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return page.getvalue()
