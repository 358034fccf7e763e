"""Reads the words of a command as the command itself does, without running it."""

from __future__ import annotations

import re
import shlex
from typing import Any

from ssl_lt.cli.commands import finetune, pretrain
from ssl_lt.cli.config.command_line import Files, RunFiles, read_config, read_words
from ssl_lt.runs.config.evaluate import EvaluateConfig


def read(verb: str, words: list[str]) -> Any:
    """The configuration that a command would start with.

    Raises:
        ConfigError: the command would not start.
    """
    if verb == "pretrain":
        return pretrain.read(words)[0]
    if verb == "finetune":
        return finetune.read_new(read_words(words, RunFiles()))[0]
    assert verb == "evaluate"
    return read_config(EvaluateConfig, read_words(words, Files()), default=EvaluateConfig())


def commands(text: str) -> list[str]:
    """The lines of a document that call one of the three verbs."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines()]
    called = re.compile(
        r"^(python|accelerate launch|torchrun)\b.*\b(pretrain|finetune|evaluate)\.py"
    )
    return [line for line in lines if called.match(line)]


def split_command(command: str) -> tuple[str, list[str]]:
    """The verb of a line and the words after it."""
    typed = shlex.split(command, comments=True)
    script = next(i for i, word in enumerate(typed) if word.endswith(".py"))
    return typed[script].removesuffix(".py"), typed[script + 1 :]
