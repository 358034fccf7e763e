"""Frozen dataclasses as flat tables of flags, and back.

A nested dataclass whose field is annotated with `Flat` gives its fields to the level above; any
other nested dataclass prefixes them with its own name and a dot (`bcl.beta`). The names are the
flags of the command line and the keys of the YAML files.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import tyro

from ssl_lt.core.errors import ConfigError

T = TypeVar("T")
# Of a whole number: the largest seed. What is above it is a slip, and more than torch can count.
_MAX_INT = 2**32
Flat = Annotated[T, tyro.conf.arg(name="")]


def flat(kind: type[Any]) -> Any:
    """`Flat[kind]` for a dataclass that is only known when the program runs."""
    return cast(Any, Annotated)[kind, tyro.conf.arg(name="")]


def one_of(names: Iterable[str]) -> Any:
    """`Literal` of names that are only known when the program runs."""
    return cast(Any, Literal)[tuple(names)]


def extended(base: type[T], fields: Sequence[tuple[str, Any, Any]]) -> T:
    """The default of a configuration that has some more fields, or other types and defaults.

    Args:
        base: frozen dataclass.
        fields: name, type, and a default or a dataclass to be made by default.
    """
    made = [
        (name, kind, dataclasses.field(default_factory=value) if isinstance(value, type) else value)
        for name, kind, value in fields
    ]
    extension = dataclasses.make_dataclass(base.__name__, made, bases=(base,), frozen=True)
    extension.__doc__ = base.__doc__
    return cast(T, extension())


def flat_fields(instance: Any) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """(flag name, path of attributes, type) of every plain field below a dataclass."""
    hints = get_type_hints(type(instance), include_extras=True)
    for field in dataclasses.fields(instance):
        hint, value = hints[field.name], getattr(instance, field.name)
        if not dataclasses.is_dataclass(value):
            yield field.name.replace("_", "-"), (field.name,), _bare(hint)
            continue
        prefix = "" if get_origin(hint) is Annotated else f"{field.name.replace('_', '-')}."
        for name, path, kind in flat_fields(value):
            yield prefix + name, (field.name, *path), kind


def to_mapping(instance: Any) -> dict[str, Any]:
    """Flag name -> plain value, in an order and form that YAML writes and reads back."""
    plain: dict[str, Any] = {}
    for name, path, _ in flat_fields(instance):
        value = instance
        for attribute in path:
            value = getattr(value, attribute)
        if isinstance(value, Path):
            value = str(value)
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


def with_values(instance: T, values: Mapping[str, Any], *, origin: str) -> T:
    """A copy in which some fields, given by their flag names, have other values.

    Raises:
        ConfigError: names `origin`, the key and, where the key is unknown, the nearest valid one.
    """
    known = {name: (path, kind) for name, path, kind in flat_fields(instance)}
    check_numbers(values, origin=f"{origin}: ")
    updates: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name not in known:
            raise ConfigError(f"{origin}: unknown key {key!r}{nearest(name, known)}")
        path, kind = known[name]
        updates[path] = coerce(value, kind, where=f"{origin}: {key}")
    try:
        return cast(T, _replace(instance, updates))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


def check_numbers(values: Mapping[str, Any], *, origin: str) -> None:
    """Refuses what no field can use, nan above all: it passes most comparisons.

    Args:
        values: flag name -> plain value, of `to_mapping` or a file.
        origin: put before the name in the message.

    Raises:
        ConfigError: a number, alone or in a list, is not finite or absurdly large.
    """
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{origin}{name}: {number} is not a finite number")
            if isinstance(number, int) and not -_MAX_INT < number < _MAX_INT:
                raise ConfigError(f"{origin}{name}: a whole number of {_MAX_INT} or more")


def coerce(value: Any, kind: Any, *, where: str) -> Any:
    """A YAML value as the type a field asks for.

    Raises:
        ConfigError: names `where`, the value and what was expected.
    """
    if get_origin(kind) in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        kind = next(k for k in get_args(kind) if k is not type(None))
    if get_origin(kind) is Literal:
        return _choice(value, get_args(kind), where=where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: {_shown(value)} is not a list")
        inner = get_args(kind)[0]
        return tuple(coerce(v, inner, where=where) for v in value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: {_shown(value)} is not of type {kind.__name__}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _choice(value: Any, choices: tuple[Any, ...], *, where: str) -> Any:
    # YAML reads a bare `no` as false; where the choices are words, it was meant as one.
    if value is False and "no" in choices:
        return "no"
    if value not in choices:
        raise ConfigError(f"{where}: {_shown(value)} is none of {', '.join(map(str, choices))}")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing where nothing is near."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _replace(instance: Any, updates: Mapping[tuple[str, ...], Any]) -> Any:
    direct = {path[0]: value for path, value in updates.items() if len(path) == 1}
    nested = {path[0] for path in updates if len(path) > 1}
    for name in nested:
        below = {path[1:]: value for path, value in updates.items() if path[0] == name}
        direct[name] = _replace(getattr(instance, name), below)
    return dataclasses.replace(instance, **direct)


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
