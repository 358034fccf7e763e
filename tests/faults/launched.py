"""`python -m tests.faults.launched FAULT VERB WORDS...`: a command whose last process is broken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ssl_lt.cli.main import run_command
from tests.faults import rank_faults

if __name__ == "__main__":
    fault, verb, *words = sys.argv[1:]
    Path(f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    if os.environ["RANK"] == "1":
        getattr(rank_faults, fault)()
    run_command(verb, words)
