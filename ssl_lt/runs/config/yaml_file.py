"""YAML that means what it says: no tags, no duplicate keys, `1e-3` a number, a bounded size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ssl_lt.core.errors import ConfigError

# A hundred times the largest configuration, and still read in a second.
_MAX_BYTES = 1 << 16
_MAX_DEPTH = 20
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, anchors and numbers that are not as they look."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        # A few nested aliases can stand for gigabytes; a configuration needs none.
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases are not read", event)
        if getattr(event, "tag", None) is not None:
            raise _refusal(f"tag {event.tag!r}: tags are not read", event)
        if self.depth == _MAX_DEPTH:
            raise _refusal("nested too deeply", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: Any = False) -> dict[Any, Any]:  # noqa: FBT002
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key is not a word", key)
            if key.value in seen:
                raise _refusal(f"key {key.value!r} appears twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_plain_int(self, node: Any) -> int:
        """A decimal; YAML 1.1 takes 010 for 8 and 1:30 for 90."""
        if not _PLAIN_INT.fullmatch(node.value):
            raise _refusal(f"{node.value[:40]!r} is no plain number; a word needs quotes", node)
        return int(node.value.replace("_", ""))

    def construct_plain_float(self, node: Any) -> float:
        """A decimal; YAML 1.1 takes 1:30.5 for 90.5."""
        if ":" in node.value:
            raise _refusal(f"{node.value[:40]!r} is no plain number; a word needs quotes", node)
        return float(super().construct_yaml_float(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_plain_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_plain_float)


class _Dumper(yaml.SafeDumper):
    """Writes a word that `_Loader` would take for a number in quotes."""


def _refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+0123456789."),
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A file's mapping, nested keys joined by dots, `_` in them written as `-`.

    Raises:
        ConfigError: names the file and line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)  # not all of it: a device has no end
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path}: more than {_MAX_BYTES} bytes: not a configuration")
    try:
        content = yaml.load(data.decode("utf-8"), Loader=_Loader)  # ours is a SafeLoader
    # ValueError: bytes that are no text, or a date such as 2001-99-99.
    except (yaml.YAMLError, ValueError) as error:
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
    text: str = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _joined(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}".replace("_", "-")
        if isinstance(value, dict):
            yield from _joined(value, prefix=f"{name}.")
        else:
            yield name, value
