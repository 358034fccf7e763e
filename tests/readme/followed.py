"""Follows a document that says how to add something, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COMMANDS = "--- what the commands print"
# A file that is named, and the block of code that says what is in it.
_BLOCK = re.compile(r"`((?:ssl_lt|tests)/[\w/]+\.py)`[^`]*```(python|diff)\n(.*?)```", re.DOTALL)


class Copy:
    """The code and the tests, with what the document adds.

    Attributes:
        place: the folder.
        written: files that are new.
        changed: files that have new lines.
    """

    def __init__(self, document: str, place: Path) -> None:
        self.place = place
        for name in ("ssl_lt", "tests"):
            shutil.copytree(
                ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "golden")
            )
        shutil.copy(ROOT / "pyproject.toml", place)
        self.written, self.changed = [], []
        for path, kind, code in _BLOCK.findall((ROOT / "docs" / document).read_text("utf-8")):
            if kind == "python":
                assert not (place / path).exists(), path
                (place / path).write_text(code, "utf-8")
                self.written.append(path)
            else:
                text = (place / path).read_text("utf-8")
                (place / path).write_text(changed(text, code), "utf-8")
                self.changed.append(path)

    def run(self, *words: str) -> str:
        """`python WORDS` in the copy, which must succeed; what it printed."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.place,
            env={**os.environ, "PYTHONPATH": str(self.place), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def pass_and_succeed(self, tests: Sequence[Sequence[str]], *lines: Sequence[str]) -> str:
        """`pytest WORDS` and then `ssl-lt WORDS`, one after the other in one process.

        Importing torch takes longer than most of them. Returns what the commands printed.
        """
        quiet = ["-q", "-n", "0", "-p", "no:cacheprovider"]
        calls = "".join(f"assert pytest.main({[*quiet, *words]!r}) == 0\n" for words in tests)
        calls += f"print({_COMMANDS!r})\nfrom tests.toolbox import succeed\n"
        calls += "".join(f"print(succeed(*{list(words)!r}).out)\n" for words in lines)
        return self.run("-c", f"import pytest\n{calls}").split(f"{_COMMANDS}\n")[1]


def changed(text: str, diff: str) -> str:
    """The text with a diff's lines; a line of context must stand in it exactly once."""
    lines, place = text.splitlines(), 0
    for line in diff.splitlines():
        sign, content = line[:1], line[1:]
        if sign == "+":
            lines.insert(place, content)
            place += 1
            continue
        assert lines.count(content) == 1, f"not once in the file: {content!r}"
        place = lines.index(content) + 1
        if sign == "-":
            place -= 1
            del lines[place]
    return "\n".join(lines) + "\n"
