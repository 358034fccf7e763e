"""From a command line to one frozen configuration: YAML files first, then flags."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from ssl_lt.cli.fields import check_numbers, flat_fields, nearest, to_mapping, with_values
from ssl_lt.cli.yaml_file import read_yaml, write_yaml
from ssl_lt.core.errors import EXIT_CODES, ConfigError
from ssl_lt.core.files import write_text_atomically

T = TypeVar("T")

# Keys of a run's config.yaml that are no options; such a file may be given as --config.
ABOUT_THE_RUN = ("verb", "command")


def split_arguments(arguments: Sequence[str]) -> list[str]:
    """`--some_flag=value` as `--some-flag value`; the values are left alone."""
    words: list[str] = []
    for argument in arguments:
        if not argument.startswith("--"):
            words.append(argument)
            continue
        name, equals, value = argument.partition("=")
        words.append(name.replace("_", "-"))
        words += [value] * bool(equals)
    return words


def with_run_flag(words: list[str]) -> list[str]:
    """`RUN --flags` as `--run RUN --flags`; see `with_flags`."""
    return with_flags(words, "--run")


def with_flags(words: list[str], *flags: str) -> list[str]:
    """`A B --others` as `--first A --second B --others`.

    Args:
        words: of the command line.
        flags: what the words before the first flag are, in order; fewer may be given.

    Raises:
        ConfigError: one of them is given both ways.
    """
    named: list[str] = []
    rest = list(words)
    for flag in flags:
        if not rest or rest[0].startswith("--"):
            break
        if flag in rest:
            raise ConfigError(f"{flag}: {rest[0]} is the {flag.removeprefix('--')} already")
        named += [flag, rest.pop(0)]
    return [*named, *rest]


def take_values(words: list[str], flag: str) -> list[str]:
    """Removes every `flag VALUE ...` from the words and returns the values."""
    values: list[str] = []
    while flag in words:
        start = words.index(flag)
        end = start + 1
        while end < len(words) and not words[end].startswith("--"):
            end += 1
        values += words[start + 1 : end]
        del words[start:end]
    return values


def peek_values(words: Sequence[str], flag: str) -> list[str]:
    """What the last `flag VALUE ...` says, without removing it."""
    copy = list(words)
    start = len(copy) - 1 - copy[::-1].index(flag) if flag in copy else len(copy)
    return take_values(copy[start:], flag)


def read_configs(words: list[str]) -> dict[str, Any]:
    """Removes `--config FILE` (any number) from the words; later files win over earlier ones."""
    if "--config" in words and not peek_values(words, "--config"):
        raise ConfigError("--config: no file given")
    values: dict[str, Any] = {}
    for file in take_values(words, "--config"):
        values |= read_yaml(Path(file))
    return {key: value for key, value in values.items() if key not in ABOUT_THE_RUN}


def parse(
    default: T,
    words: Sequence[str],
    values: Mapping[str, Any],
    *,
    prog: str,
    elsewhere: Mapping[str, str] | None = None,
) -> T:
    """The configuration: `default`, then `values` of YAML files, then the flags in `words`.

    Args:
        default: what is not given.
        words: of `split_arguments`.
        values: flag name -> value, of `read_configs`.
        prog: name of the command in `--help`.
        elsewhere: flags that exist but belong to something not chosen -> what they belong to.

    Raises:
        ConfigError: names the flag or key, and the nearest valid name for an unknown one.
    """
    for name in values:
        if name in (elsewhere or {}):
            raise ConfigError(f"--config: {name} belongs to {(elsewhere or {})[name]}")
    default = with_values(default, values, origin="--config")
    known = {name: None for name, _, _ in flat_fields(default)}
    for word in words:
        name = word.removeprefix("--")
        if not word.startswith("--") or name == "help" or name.removeprefix("no-") in known:
            continue
        if name in (elsewhere or {}):
            raise ConfigError(f"{word} belongs to {(elsewhere or {})[name]}, which was not chosen")
        flags = [f"--{flag}" for flag in known]
        raise ConfigError(f"unknown flag {word}{nearest(word, flags)}")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            config = tyro.cli(
                type(default),
                default=default,
                args=list(words),
                prog=prog,
                description=f"{type(default).__doc__}\n\n{EXIT_CODES}",
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(_first_sentence(errors.getvalue())) from None
    check_numbers(to_mapping(config), origin="--")
    return config


def write_config(path: Path, config: Any, *, verb: str, command: str) -> None:
    """The resolved configuration; `read_yaml` and `with_values` give the same object back."""
    content = {"verb": verb, "command": command, **to_mapping(config)}
    write_text_atomically(path, write_yaml(content))


def _first_sentence(box: str) -> str:
    """What tyro's framed message says, in one line."""
    lines = [re.sub(r"^[│╭╰─ ]+|[│╮╯─ ]+$", "", line) for line in box.splitlines()]
    texts = [line for line in lines[1:] if line]
    end = next(
        (i for i, t in enumerate(texts) if t.startswith(("Argument help", "For full"))), None
    )
    return " ".join(texts[:end]) or "the command line could not be read"
