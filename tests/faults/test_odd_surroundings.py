"""The commands where the terminal, the locale, the directory or the thread are not the usual."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.toolbox import TINY, succeed, write_picture

pytestmark = pytest.mark.slow  # whole commands, in processes of their own

ROOT = Path(__file__).parents[2]
# Neither ASCII nor code page 1252 has all of these.
CLASSES = ("Löwe", "猫 🐈")
SURROUNDINGS = {
    # As where files are opened in the system's encoding, and that is none of Unicode's.
    "ASCII alone": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "the C locale and a log in code page 1252": {
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONIOENCODING": "cp1252",
    },
}
PROGRAM = """
import json, sys
from ssl_lt.cli.main import run_command
for verb, *words in json.loads(sys.argv[1]):
    try:
        run_command(verb, words)
    except SystemExit as end:
        if end.code:
            sys.exit(end.code)
"""


@pytest.fixture
def place(tmp_path):
    """Pictures of two classes, and another working directory."""
    for number in range(20):
        name = f"{number:02}–é.png"
        write_picture(tmp_path / "photos" / CLASSES[number % 2] / name, number)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def commands(photos, runs):
    """Every command that most people give, one after the other."""
    quick = [*TINY, "--batch-size", "4"]
    tuned = ["--init-from", f"{runs}/pre", "--epochs", "1", "--batch-size", "4"]
    tuned += ["--num-workers", "0", "--mixed-precision", "no", "--head-init", "random"]
    return [
        ["data", "inspect", f"folder:{photos}", "--output", f"{runs}/inspected"],
        ["pretrain", *quick, "--data", f"folder:{photos}", "--run-dir", f"{runs}/pre"],
        ["finetune", *tuned, "--lr", "0.01", "--run-dir", f"{runs}/tuned"],
        ["evaluate", "--run", f"{runs}/tuned", "--map-images", "8", "--verbose"],
    ]


def check(place, said):
    """All has come to its end, and the names are whole where they are written."""
    for line in ("page: ", "finished: ", "next: evaluate.py --run ", "report: "):
        assert line in said, said
    for path in ("inspected/index.json", "tuned/results.json"):
        told = json.loads((place / "runs" / path).read_text("utf-8"))
        names = told["data"]["class_names"] if "data" in told else told["class_names"]
        assert len(names) == 2
        yield names
    page = (place / "runs/tuned/report/index.html").read_text("utf-8")
    assert "charset" in page.lower()


@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_a_log_in_any_encoding_from_another_directory(place, kind):
    words = json.dumps(commands("../photos", "../runs"))
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    environ |= {"PYTHONPATH": str(ROOT), **SURROUNDINGS[kind]}
    with (place / "log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, words],
            cwd=place / "elsewhere", env=environ, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    said = (place / "log").read_bytes().decode("cp1252", "replace")
    assert done.returncode == 0, said[-3000:]
    assert "Traceback" not in said
    for names in check(place, said):
        # Where file names are bytes, what is no ASCII in them is escaped.
        assert kind == "ASCII alone" or set(names) == set(CLASSES)


def test_in_a_thread_of_a_program(place, monkeypatch):
    monkeypatch.chdir(place / "elsewhere")
    said = []

    def work():
        said.extend(succeed(*words).out for words in commands(place / "photos", place / "runs"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(said) == 4
    for names in check(place, "".join(said)):
        assert set(names) == set(CLASSES)
