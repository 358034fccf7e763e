"""The commands of a document, by their verbs and words."""

from __future__ import annotations

import re
import shlex


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
