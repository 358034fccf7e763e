"""docs/using_a_run.md: its commands and its Python run one after the other, as they stand."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.runs.inference.conftest import place, write_photo  # noqa: F401  (a fixture)
from tests.toolbox import succeed

TEXT = (Path(__file__).parents[2] / "docs" / "using_a_run.md").read_text("utf-8")


@pytest.mark.slow
def test_the_document_can_be_followed(place, empty, monkeypatch, capsys):  # noqa: F811
    for folder in ("run", "photos"):
        shutil.copytree(place / folder, empty / folder)
    for number, name in enumerate("abcd"):
        write_photo(empty / "new" / f"{name}.png", number, 0)
    (empty / "prior.csv").write_text("class,count\nash,10\nbirch,10\ncedar,80\n")
    for line in re.findall(r"^.*\bssl-lt (?:predict|embed|export) .*$", code("bash"), flags=re.M):
        paths = "".join(f"new/{name}.png\n" for name in "abcd")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(paths.encode())))
        words = shlex.split(line.partition("ssl-lt ")[2], comments=True)
        more = [] if words[0] == "export" else ["--num-workers", "0"]
        succeed(*words, *more)
    assert (empty / "listed.csv").read_text().count("\n") == 5
    assert (empty / "look.neighbours.csv").read_text().count("\n") == 1 + 4 * 3
    exec(compile(code("python"), "docs/using_a_run.md", "exec"), {"__name__": "__main__"})
    assert "torch.Size([1, 16])" in capsys.readouterr().out


def code(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.M | re.S))
