"""Frozen dataclasses as JSON files and back; errors name the file and the field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from ssl_lt.core.disk.text import printable
from ssl_lt.core.errors import DataError

_LONE = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dictionaries, lists and numbers of a dataclass, fit for JSON.

    Infinity and NaN, which JSON does not have, become None; what is no number, text or container
    becomes its text.
    """
    return to_jsonable_python(value, inf_nan_mode="null", fallback=str)


def read_plain(path: Path, *, newest: int) -> Any:
    """What a JSON file holds, if this version of ssl_lt knows its schema.

    Args:
        path: of the file.
        newest: the highest `schema_version` that can be read.

    Raises:
        DataError: no such file, damaged JSON, or a newer schema; one line that names the file.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, brackets without end
        raise DataError(f"{path}: damaged, not JSON ({error})") from error
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version > newest:
        raise DataError(
            f"{path}: schema_version {version} is newer than {newest}, "
            "the newest this version of ssl_lt reads"
        )
    return plain


def from_plain(kind: type[T], plain: Any) -> T:
    """The dataclass that `to_plain` was given.

    Args:
        kind: a dataclass of numbers, text, None, tuples, mappings and dataclasses.
        plain: what the JSON file holds.

    Raises:
        ValueError: a missing or unknown field, or a value of another type; names the first.
    """
    try:
        # As JSON, where a list is the tuple that a dataclass asks for.
        text = _LONE.sub(_escaped, json.dumps(plain, ensure_ascii=False))
        return TypeAdapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        raise ValueError(_sentence(error.errors(include_url=False)[0])) from error


def _escaped(found: re.Match[str]) -> str:
    """Inside a JSON text; pydantic takes no half of a pair, which names of files may have."""
    return json.dumps(printable(found[0]))[1:-1]


def _sentence(error: ErrorDetails) -> str:
    """Such as "evaluations[0].accuracy.groups: input should be a valid array, not 3"."""
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error["loc"])
    where = where.removeprefix(".") or "the file"
    match error["type"]:
        case "missing":
            return f"{where}: missing"
        case "unexpected_keyword_argument":
            return f"{where}: unknown field"
    shown = repr(error["input"])
    shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, not {shown}"
