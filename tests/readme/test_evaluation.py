"""docs/evaluation.md: its commands are understood, and no flag of the protocols is missing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from ssl_lt.cli.config.parse import parse, split_arguments

from ssl_lt.evaluate.protocol_options import ProtocolOptions
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.schema import flat_fields

TEXT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python evaluate\.py.*$", TEXT, flags=re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    words = split_arguments(shlex.split(command, comments=True)[2:])
    parse(EvaluateConfig(), words, {}, prog="")


@pytest.mark.parametrize("flag", [name for name, _, _ in flat_fields(ProtocolOptions())])
def test_every_protocol_flag_has_a_row(flag):
    assert re.search(rf"^\| `--{flag}\b", TEXT, flags=re.M)
