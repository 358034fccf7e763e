"""Frozen dataclasses out of what a JSON file holds, with errors that name the field."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dictionaries, lists and numbers of a dataclass, fit for JSON.

    Infinity and NaN, which JSON does not have, become None; anything that is no number, text or
    container becomes its text.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def from_plain(kind: type[T], value: Any, *, field: str = "") -> T:
    """The dataclass that `to_plain` was given.

    Args:
        kind: a dataclass of str, int, float, bool, None, tuples, mappings and dataclasses.
        value: what the JSON file holds.
        field: where it stands, for the error.

    Raises:
        ValueError: a missing or unknown field, or a value of another type; names the field.
    """
    return cast(T, _build(kind, value, field))


def _build(kind: Any, value: Any, field: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        # Only `X | None` occurs.
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        return None if value is None else _build(inner, value, field)
    if is_dataclass(kind):
        return _build_dataclass(kind, value, field)
    if origin is tuple:
        return _build_tuple(get_args(kind), value, field)
    if origin is not None:
        _, item_kind = get_args(kind)
        _expect(value, Mapping, "an object", field)
        return {key: _build(item_kind, item, f"{field}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{field}: {value!r} is no {kind.__name__}")
    return value


def _build_dataclass(kind: Any, value: Any, field: str) -> Any:
    _expect(value, Mapping, "an object", field)
    prefix = f"{field}." if field else ""
    known = {f.name: f for f in fields(kind)}
    for name in value:
        if name not in known:
            raise ValueError(f"{prefix}{name}: unknown field")
    for name, f in known.items():
        if name not in value and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{prefix}{name}: missing")
    hints = get_type_hints(kind)
    return kind(
        **{name: _build(hints[name], item, f"{prefix}{name}") for name, item in value.items()}
    )


def _build_tuple(kinds: tuple[Any, ...], value: Any, field: str) -> tuple[Any, ...]:
    _expect(value, list, "a list", field)
    if kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{field}: {len(value)} entries instead of {len(kinds)}")
    return tuple(
        _build(kind, item, f"{field}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _expect(value: Any, kind: type, name: str, field: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{field or 'the file'}: {type(value).__name__} instead of {name}")
