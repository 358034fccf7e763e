"""The keywords of the functions are the flags: none is missing, none is left over."""

from __future__ import annotations

import os
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from ssl_lt import keywords
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.finetune import default_config
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.config.schema import flags

# Of the type str: what may also be a path, or a run that a function has returned.
PLACES = {"run", "init-from", "data-root"}
VERBS = {
    keywords.PretrainKeywords: [PretrainConfig()],
    keywords.FinetuneKeywords: [default_config(loss) for loss in LOSSES],
    keywords.EvaluateKeywords: [EvaluateConfig()],
}
FILES = {"config", "resume"}


def members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def expected(name: str, kind: Any) -> set[Any]:
    """The members of the type that a keyword should have."""
    found: set[Any] = set()
    for member in members(kind):
        if get_origin(member) is tuple:
            found.add(Sequence[get_args(member)[0]])
        elif member is Path or (member is str and name in PLACES):
            found |= {str, os.PathLike[str]}
        else:
            found.add(member)
    return found


def written(kinds: set[Any]) -> str:
    """As a line of the file has it."""
    words = [
        f'Literal[{", ".join(repr(a) for a in get_args(k))}]'
        if get_origin(k) is Literal
        else "None" if k is type(None)
        else getattr(k, "__name__", str(k)) if not get_args(k)
        else str(k).replace("collections.abc.", "").replace("typing.", "")
        for k in sorted(kinds, key=lambda kind: (kind is type(None), str(kind)))
    ]  # fmt: skip
    return " | ".join(words)


@pytest.mark.parametrize("kind", VERBS, ids=lambda kind: kind.__name__)
def test_they_are_the_flags(kind):
    wanted: dict[str, set[Any]] = {}
    for config in VERBS[kind]:
        for flag in flags(config):
            key = flag.name.replace("-", "_").replace(".", "_")
            wanted.setdefault(key, set()).update(expected(flag.name, flag.kind))
    found = {key: set(members(hint)) for key, hint in get_type_hints(kind).items()}
    lines = [f"    {key}: {written(kinds)}" for key, kinds in wanted.items()
             if found.get(key) != kinds]  # fmt: skip
    assert not lines, f"{kind.__name__} in ssl_lt/keywords.py needs:\n" + "\n".join(lines)
    assert found.keys() - wanted.keys() <= FILES, f"{kind.__name__} has keys that are no flags"
    assert kind.__total__ is False


@pytest.mark.parametrize("kind", VERBS, ids=lambda kind: kind.__name__)
def test_no_two_flags_share_a_keyword(kind):
    for config in VERBS[kind]:
        keys = [flag.name.replace(".", "-") for flag in flags(config)]
        assert len(keys) == len(set(keys))
