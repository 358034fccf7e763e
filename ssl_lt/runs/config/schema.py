"""Frozen dataclasses as flat tables of flags.

A nested dataclass whose field is annotated with `Flat` (`ssl_lt.core.options`) gives its fields to
the level above; any other nested dataclass prefixes them with its own name and a dot (`bcl.beta`).
The names are the flags of the command line and the keys of the YAML files.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ssl_lt.core.options import Effect, effect_of, group_of


@dataclass(frozen=True)
class Flag:
    """One option of a configuration.

    Attributes:
        name: as it is typed, without the leading `--`.
        kind: its type; of an option whose type is a parameter of the class, that parameter.
        value: of the instance.
        declared: the field, with what `ssl_lt.core.options.option` put on it.
        owner: the dataclass that declares the field.
        group: title of its box on the pages of help.
    """

    name: str
    kind: Any
    value: Any
    declared: dataclasses.Field[Any]
    owner: type[Any]
    group: str


def flags(config: Any, *, prefix: str = "", group: str = "options") -> Iterator[Flag]:
    """Every option below a dataclass, in the order of declaration."""
    kinds = get_type_hints(type(config), include_extras=True)
    for declared in dataclasses.fields(config):
        kind, value = kinds[declared.name], getattr(config, declared.name)
        name = prefix + declared.name.replace("_", "-")
        own_group = group_of(declared) or group
        if dataclasses.is_dataclass(value):
            is_flat = get_origin(kind) is Annotated
            start = prefix if is_flat else f"{name}."
            yield from flags(value, prefix=start, group=own_group if is_flat else name)
        else:
            kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
            yield Flag(name, kind, value, declared, type(config), own_group)


def to_mapping(config: Any, *, skip: Iterable[str] = ()) -> dict[str, Any]:
    """Flag name -> plain value, in an order and form that YAML writes and reads back.

    Args:
        config: a frozen dataclass.
        skip: starts of the names that are left out.
    """
    skipped = tuple(skip)
    return {
        flag.name: _plain(flag.value) for flag in flags(config) if not flag.name.startswith(skipped)
    }


def names_with(config: Any, *effects: Effect) -> set[str]:
    """The flags on which only these depend."""
    return {flag.name for flag in flags(config) if effect_of(flag.declared) in effects}


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`--lr 0.2 (was 0.1)` of every option that both know and that is not the same."""
    return [
        f"--{name} {value} (was {was[name]})"
        for name, value in now.items()
        if name in was and was[name] != value
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing where nothing is near."""
    names = list(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    # `--prune-ratio` is not far from `--sdclr.prune-ratio`.
    found = found or [known for known in names if known.rpartition(".")[2] == name.strip("-")]
    return f"; did you mean {found[0]}?" if found else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
