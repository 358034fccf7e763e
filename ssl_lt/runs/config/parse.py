"""From words to a typed configuration: the one parser of flags, YAML files and stored runs."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tyro

from ssl_lt.core.disk.yaml_file import as_words
from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.config.schema import flags, nearest, to_mapping

C = TypeVar("C")

# Of a whole number: the largest seed. What is above it is a slip, and more than torch can count.
_MAX_INT = 2**32


@dataclass(frozen=True)
class Parsed(Generic[C]):
    """What was understood.

    Attributes:
        config: the configuration.
        given: names of the flags that were typed.
        rest: words that are no value of a flag of the configuration, in their order.
    """

    config: C
    given: frozenset[str]
    rest: tuple[str, ...]


def parse(kind: Any, words: Sequence[str], *, default: C) -> C:
    """The configuration that the words say.

    Args:
        kind: the class of `default`, with its parameters: `FinetuneConfig[RebalancedOptions]`.
        words: as a user types them.
        default: what is not given.

    Raises:
        ConfigError: names the flag, and the nearest valid one of an unknown flag.
    """
    parsed = parse_known(kind, words, default=default)
    refuse_unknown(parsed.rest, known=[flag.name for flag in flags(default)])
    return parsed.config


def parse_known(kind: Any, words: Sequence[str], *, default: C) -> Parsed[C]:
    """Like `parse`, and what is not known is given back.

    Raises:
        ConfigError: a value does not fit; names the flag.
    """
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            config, rest = tyro.cli(
                kind, default=default, args=list(words), return_unknown_args=True, add_help=False
            )
    except SystemExit:
        raise ConfigError(_one_line(message.getvalue())) from None
    _check_numbers(to_mapping(config))
    values = dict(_name_and_value(word) for word in words if word.startswith("--"))
    known = {flag.name: flag for flag in flags(default)}
    given = {name for name in known if {name, f"no-{name}"} & values.keys()}
    for name in given:
        if known[name].kind is bool and values.get(name):  # which tyro ignores
            raise ConfigError(f"--{name}: takes no value; it is --{name} or --no-{name}")
    return Parsed(config, frozenset(given), tuple(rest))


def named(words: Iterable[str]) -> set[str]:
    """Names of the flags among the words, as they are typed: `no-NAME`, too."""
    return {_name_and_value(word)[0] for word in words if word.startswith("--")}


def _name_and_value(word: str) -> tuple[str, str]:
    name, _, value = word.removeprefix("--").partition("=")
    return name.replace("_", "-"), value


def refuse_unknown(rest: Sequence[str], *, known: Iterable[str]) -> None:
    """Raises ConfigError for the first of the words that nothing has taken, if there is one."""
    names = [f"--{name}" for name in known]
    for word in rest:
        if word.startswith("-"):
            flag = word.split("=")[0]
            raise ConfigError(f"unknown flag {flag}{nearest(flag.replace('_', '-'), names)}")
    if rest:
        raise ConfigError(f"{rest[0]!r}: a word that belongs to no flag")


def from_mapping(kind: Any, values: Mapping[str, Any], *, default: C) -> C:
    """The configuration that `to_mapping` was given.

    Raises:
        ConfigError: as `parse`.
    """
    return parse(kind, as_words(values), default=default)


def _check_numbers(values: Mapping[str, Any]) -> None:
    """Refuses what no option can use, nan above all: it passes most comparisons."""
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"--{name}: {number} is not a finite number")
            if isinstance(number, int) and not -_MAX_INT < number < _MAX_INT:
                raise ConfigError(f"--{name}: a whole number of {_MAX_INT} or more")


def _one_line(box: str) -> str:
    """What tyro's framed message says."""
    lines = [re.sub(r"^[│╭╰─ ]+|[│╮╯─ ]+$", "", line) for line in box.splitlines()]
    # Where the terminal knows ASCII alone, the frame is dashes.
    texts = [line for line in lines[1:] if line.strip("-")]
    end = next((i for i, text in enumerate(texts) if text.startswith("Argument help")), None)
    line = " ".join(texts[:end]) or "the command line could not be read"
    line = re.sub(r"^Error parsing (?:[A-Z]\w*: )?", "", line)  # the class is no word of the user's
    # Nor is the field that checks its own flags.
    line = re.sub(r"^[\w.]+: (?=--)", "", line)
    # Of an option that may be left out: why the value is none of its other kind.
    return re.sub(r"no type matching \{None\}\|.*<class '\w+'>: ", "", line)
