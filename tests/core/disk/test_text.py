"""Signs that a stream or a reader does not take, and streams that nobody reads."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from ssl_lt.core.disk import text
from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import from_plain
from ssl_lt.report.records.curves import Curve

NAME = os.fsdecode(b"caf\xe9")


def test_bytes_of_a_name_are_shown_in_hexadecimal():
    assert text.printable(NAME) == r"caf\xe9"
    assert text.printable("Größe кот 猫") == "Größe кот 猫"
    assert text.printable("\ud800") == "?"


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", rb"-5.0 +/- 1 ... caf\xe9 Gr??e"),
        ("latin-1", b"-5.0 \xb1 1 ... caf\\xe9 Gr\xf6\xdfe"),
        ("utf-8", "−5.0 ± 1 … caf\\xe9 Größe".encode()),
    ],
)
def test_streams_write_what_they_can(monkeypatch, encoding, written):
    kept = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # cannot be told, and needs it not
    text.write_any_text()
    print(f"−5.0 ± 1 … {NAME} Größe", end="", flush=True)
    assert kept.getvalue() == written


def test_files_keep_a_name_and_give_it_back(tmp_path):
    write_text_atomically(tmp_path / "a.json", json.dumps(NAME, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == NAME


def test_a_name_in_a_file_is_no_damage():
    with pytest.raises(ValueError, match=r"steps: input should be a valid array, not 'caf"):
        from_plain(Curve, {"steps": NAME, "values": []})


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["doctor"]])
def test_a_closed_pipe_ends_a_command_quietly(words):
    running = subprocess.Popen(
        [sys.executable, "-m", "ssl_lt", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    running.stdout.close()
    said = running.stderr.read()
    assert running.wait() == text.CLOSED_PIPE
    assert said == b""


def test_a_program_started_without_streams_prints_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    text.write_any_text()
    print("somewhere")
    print("\N{SNOWMAN}", file=sys.stderr)
    sys.stdout.flush()
