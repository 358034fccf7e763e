"""From what a user typed to a typed configuration: positional words, YAML files, flags."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro

from ssl_lt.cli.config.help import help_page
from ssl_lt.cli.config.recipes import config_file
from ssl_lt.core.disk.yaml_file import as_words, read_yaml
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Page, option
from ssl_lt.runs.config.parse import Parsed, named, parse_known, refuse_unknown
from ssl_lt.runs.config.schema import flags, nearest, to_mapping
from ssl_lt.runs.config.stored import option_values, without_effect

C = TypeVar("C")
F = TypeVar("F", bound="Files")


@dataclass(frozen=True)
class Files:
    """Options from a file."""

    config: tyro.conf.UseAppendAction[tuple[Path, ...]] = option((), group="files")
    """YAML file of options, named like the flags, or a recipe of the package such as
    finetune/cifar100_lt/rcl. May be given again: later files win over earlier ones, and flags over
    files."""


@dataclass(frozen=True)
class RunFiles(Files):
    """Options from a file, and a run that goes on."""

    resume: tuple[str, ...] | None = option(None, group="files")
    """Continue a run, with its own configuration: a path, or nothing for the newest one."""


@dataclass(frozen=True)
class Words(Generic[F]):
    """What was typed, apart.

    Attributes:
        files: the flags that name files.
        values: what the YAML files say, file by file: flag name -> value.
        typed: all other words of the command line.
    """

    files: F
    values: tuple[tuple[Path, Mapping[str, Any]], ...]
    typed: tuple[str, ...]

    def over(self, name: str, values: Mapping[str, Any]) -> Words[F]:
        """The same words, and under them what is not given by any: the values of `name`."""
        return replace(self, values=((Path(name), values), *self.values))

    @property
    def all(self) -> list[str]:
        """Files first, so that flags win."""
        return [word for _, values in self.values for word in as_words(values)] + list(self.typed)


def read_words(arguments: Sequence[str], files: F, *, positional: Sequence[str] = ()) -> Words[F]:
    """Reads the YAML files that are named.

    Args:
        arguments: of the command line.
        files: the defaults of the flags that name files.
        positional: flags that the words before the first flag are the values of, in order.

    Raises:
        ConfigError: a file that cannot be read; a positional word that is given as a flag, too.
    """
    named = _named(arguments, positional)
    found = parse_known(type(files), named, default=files)
    paths = [config_file(path) for path in found.config.config]
    values = tuple((path, option_values(read_yaml(path))) for path in paths)
    return Words(found.config, values, found.rest)


def read_config(
    kind: Any, words: Words[Any], *, default: C, elsewhere: Mapping[str, str] | None = None
) -> C:
    """The configuration of `read_given`, where nobody asks what was given."""
    return read_given(kind, words, default=default, elsewhere=elsewhere).config


def read_given(
    kind: Any, words: Words[Any], *, default: C, elsewhere: Mapping[str, str] | None = None
) -> Parsed[C]:
    """The configuration: `default`, then the files, then what was typed.

    Args:
        kind: the class of `default`, with its parameters.
        words: of `read_words`.
        default: what is not given.
        elsewhere: flags that exist for another choice -> that choice.

    Raises:
        ConfigError: names the flag, and the file where it stands in one.
    """
    elsewhere = elsewhere or {}
    known = [flag.name for flag in flags(default)]
    for path, values in words.values:
        for key in values:
            if key in elsewhere:
                raise ConfigError(f"{path}: {key} belongs to {elsewhere[key]}")
            if key not in known:
                raise ConfigError(f"{path}: unknown key {key!r}{nearest(key, known)}")
    try:
        parsed = _understood(kind, words.all, default, elsewhere)
    except ConfigError as error:
        for path, values in words.values:
            try:
                _understood(kind, as_words(values), default, elsewhere)
            except ConfigError as same:
                if str(same) == str(error):
                    raise ConfigError(f"{path}: {error}") from error
        raise
    if idle := _idle(parsed):
        _check_idle(kind, words, default, parsed, idle)
    return parsed


def show_help(arguments: Sequence[str], *, usage: str, default: Any, files: Files) -> bool:
    """Prints the page that `--help` or `--help-all` asks for; False where neither is there."""
    if not {"--help", "--help-all", "-h"} & {*arguments}:
        return False
    page: Page = "all" if "--help-all" in arguments else "short"
    sys.stdout.write(help_page(default, files, usage=usage, page=page))
    return True


def _understood(
    kind: Any, words: Sequence[str], default: C, elsewhere: Mapping[str, str]
) -> Parsed[C]:
    parsed = parse_known(kind, words, default=default)
    for word in parsed.rest:
        name = word.removeprefix("--").split("=")[0].replace("_", "-")
        if word.startswith("--") and name in elsewhere:
            raise ConfigError(f"--{name} belongs to {elsewhere[name]}, which was not chosen")
    refuse_unknown(parsed.rest, known=[flag.name for flag in flags(default)])
    return parsed


def _idle(parsed: Parsed[C]) -> dict[str, str]:
    """Flags that were given and have no effect -> what has to be chosen for them to have one."""
    return {
        name: choice
        for start, choice in without_effect(parsed.config).items()
        for name in sorted(parsed.given)
        if name.startswith(start)
    }


def _check_idle(
    kind: Any, words: Words[Any], default: C, parsed: Parsed[C], idle: Mapping[str, str]
) -> None:
    """Refuses flags without effect, but of files what says the default or was overruled.

    Raises:
        ConfigError: names the flag, and the file where it stands in one.
    """
    typed = named(words.typed)
    for name, choice in idle.items():
        if {name, f"no-{name}"} & typed:
            raise ConfigError(f"--{name} has no effect without {choice}")
    try:
        of_files = parse_known(kind, replace(words, typed=()).all, default=default)
    except ConfigError:  # which what was typed has mended
        return
    paths = {name: path for path, values in words.values for name in values}
    usual, said = to_mapping(default), to_mapping(parsed.config)
    for name, choice in _idle(of_files).items():
        if name in idle and said[name] != usual[name]:
            raise ConfigError(f"{paths[name]}: --{name} has no effect without {choice}")


def _named(arguments: Sequence[str], positional: Sequence[str]) -> list[str]:
    """`A B --others` as `--first A --second B --others`."""
    rest = list(arguments)
    named: list[str] = []
    for flag in positional:
        if not rest or rest[0].startswith("--"):
            break
        if flag in rest:
            raise ConfigError(f"{flag}: {rest[0]} is the {flag.removeprefix('--')} already")
        named += [flag, rest.pop(0)]
    return [*named, *rest]


def read_simple(
    arguments: Sequence[str], default: C, *, usage: str, positional: Sequence[str] = ()
) -> C | None:
    """The configuration of a command that has nothing to resume; None: its help was printed.

    Args:
        arguments: of the command line.
        default: what is not given.
        usage: for the help.
        positional: as in `read_words`.

    Raises:
        ConfigError: as `read_words` and `read_config`.
    """
    if show_help(arguments, usage=usage, default=default, files=Files()):
        return None
    words = read_words(arguments, Files(), positional=positional)
    return read_config(type(default), words, default=default)
