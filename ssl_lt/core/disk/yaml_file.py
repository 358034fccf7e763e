"""YAML files of options (YAML 1.2: `1e-3` is a number, `no` a word, a key stands once)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ssl_lt.core.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """A file's mapping, nested keys joined by dots, `_` in them written as `-`.

    Raises:
        ConfigError: names the file and line.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    except (YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date such as 2001-99-99
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}{line}: {problem}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a list of `key: value`")
    values: dict[str, Any] = {}
    for name, value in _joined(content):
        if name in values:
            raise ConfigError(f"{path}: key {name!r} appears twice, in two spellings")
        values[name] = value
    return values


def write_yaml(values: Mapping[str, Any]) -> str:
    """Text that `read_yaml` reads as the same values."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode, yaml.width = True, 1000
    text = io.StringIO()
    yaml.dump(dict(values), text)
    return text.getvalue()


def as_words(values: Mapping[str, Any]) -> list[str]:
    """What a user would type for these values."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{name}")
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        else:
            words.append(f"--{name}={value}")
    return words


def _joined(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}".replace("_", "-")
        if isinstance(value, dict):
            yield from _joined(value, prefix=f"{name}.")
        else:
            yield name, value
