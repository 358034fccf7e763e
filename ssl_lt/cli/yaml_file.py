"""YAML that means what it says: no tags, no duplicate keys, `1e-3` a number, a bounded size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ssl_lt.core.errors import ConfigError

_MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, anchors, and reads floats as people write them."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few nested aliases can stand for gigabytes; a configuration needs none.
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases are not read", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: Any = False) -> dict[Any, Any]:  # noqa: FBT002
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} appears twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """A file's mapping, nested keys joined by dots.

    Raises:
        ConfigError: names the file and line.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: more than {_MAX_BYTES} bytes: not a configuration")
        content = yaml.load(path.read_text(), Loader=_Loader)  # ours is a SafeLoader
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}{line}: {problem}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a list of `key: value`")
    return _joined(content)


def _joined(content: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= _joined(value, prefix=f"{name}.")
        else:
            flat[name] = value
    return flat
