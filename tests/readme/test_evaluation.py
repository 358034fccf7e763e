"""docs/evaluation.md: its commands are understood, and no flag of the protocols is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssl_lt.evaluate.protocol_options import ProtocolOptions
from ssl_lt.runs.config.schema import flags
from tests.configs import read
from tests.readme.reading import commands, split_command

TEXT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", commands(TEXT))
def test_every_command_is_understood(command):
    read(*split_command(command))


@pytest.mark.parametrize("flag", [flag.name for flag in flags(ProtocolOptions())])
def test_every_protocol_flag_has_a_row(flag):
    assert re.search(rf"^\| `--{flag}\b", TEXT, flags=re.M)
