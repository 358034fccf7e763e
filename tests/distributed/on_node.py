"""`python -m tests.distributed.on_node VERB WORDS...`: a command that says where it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ssl_lt.cli.main import run_command

if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    Path("process").write_text(" ".join(os.environ[name] for name in names))
    run_command(verb, words)
