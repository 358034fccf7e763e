from __future__ import annotations

import subprocess
import sys

import pytest

from ssl_lt.cli import data
from ssl_lt.cli.help_pages import COMMANDS, kept_page, made_page
from ssl_lt.cli.main import _VERBS
from tests.cli.commands import call

HEAVY = ("torch", "timm", "accelerate", "sklearn", "matplotlib")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_kept_page_is_the_page_that_the_command_makes(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    # Where this fails: python scripts/write_help.py
    assert kept_page([*command.split(), "--help"]) == made_page(command)


def test_help_of_every_command_imports_nothing_heavy():
    asked = [*([verb] for verb in _VERBS), *(["data", name] for name in data._COMMANDS)]
    code = f"""
import sys
from ssl_lt.cli.main import run_verb
for verb, *words in {asked}:
    try:
        run_verb(verb, [*words, "--help"])
    except SystemExit as stop:
        assert not stop.code, verb
    heavy = [name for name in {HEAVY} if name in sys.modules]
    assert not heavy, (verb, words, heavy)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("usage:") == len(asked)


def test_what_is_chosen_is_on_the_page():
    assert "--prune-ratio" not in call("pretrain", "--help").out
    assert "--prune-ratio" in call("pretrain", "--method", "sdclr", "--help").out


def test_short_and_long_flag_ask_for_the_same():
    assert call("pretrain", "-h").out == call("pretrain", "--help").out != ""
