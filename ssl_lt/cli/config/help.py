"""The pages of `--help` and `--help-all`: titled groups, one sentence or two an option."""

from __future__ import annotations

import ast
import inspect
import shutil
import textwrap
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from ssl_lt.core.options import Page, page_of
from ssl_lt.runs.config.schema import Flag, flags

_COLUMN = 30  # where sentences begin
_NAMES = {int: "N", float: "X", str: "NAME", Path: "PATH", bool: ""}


def help_page(config: Any, files: Any, *, usage: str, page: Page) -> str:
    """The page of a command.

    Args:
        config: the defaults; the docstring of its class says what the command does.
        files: the defaults of the flags that name files.
        usage: the line after "usage:".
        page: "all": every flag; "short": those that most need.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    lines = [f"usage: {usage}", "", inspect.cleandoc(type(config).__doc__ or ""), ""]
    found = [*flags(config), *flags(files)]
    shown = [flag for flag in found if page == "all" or page_of(flag.declared) == "short"]
    titles = dict.fromkeys(flag.group for flag in shown)
    for title in titles:
        lines += [title, *_lines([f for f in shown if f.group == title], width), ""]
    if hidden := len(found) - len(shown):
        lines.append(f"--help-all shows {hidden} more flags.")
    lines.append("Exit codes are in docs/reliability.md.")
    return "\n".join(lines) + "\n"


def _lines(group: Iterable[Flag], width: int) -> list[str]:
    lines = []
    for flag in group:
        head = f"  --{flag.name} {_values(flag.kind)}".rstrip()
        told = textwrap.wrap(_sentence(flag), width - _COLUMN)
        if len(head) < _COLUMN - 1:
            head, told = head.ljust(_COLUMN) + (told or [""])[0], told[1:]
        lines += [head, *(" " * _COLUMN + line for line in told)]
    return lines


def _values(kind: Any) -> str:
    """What stands after a flag: `N`, `{a,b}`, `[NAME ...]`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _values(next(k for k in inner if k is not type(None)))
    if origin is tuple and inner[-1] is not Ellipsis:
        return " ".join(map(_values, inner))
    if origin is tuple:
        return f"[{_values(inner[0])} ...]"
    if origin is Literal:
        return "{" + ",".join(map(str, inner)) + "}"
    return _NAMES.get(kind, "VALUE")


def _sentence(flag: Flag) -> str:
    """What the option is, and its default where the words do not say it."""
    told = documentation(flag.owner).get(flag.declared.name, "")
    if "Default:" in told or flag.value in (None, (), ""):
        return told
    value = flag.value
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return f"{told} (default: {value})"


def documentation(owner: type[Any]) -> dict[str, str]:
    """The strings below the fields of a dataclass and its bases, by name of the field."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__[:-1]):
        if base.__module__.startswith("ssl_lt"):
            found |= _own_documentation(base)
    return found


def _own_documentation(owner: type[Any]) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(told))):
                    found[field.target.id] = " ".join(told.split())
    return found
