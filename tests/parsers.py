"""Tyro builds its parser anew at each call, which takes most of the time of reading a command line.

Here the one of a class and its defaults is built once a process. Nothing changes a parser.
"""

from __future__ import annotations

from typing import Any

from tyro._parsers import ParserSpecification

_build = ParserSpecification.from_callable_or_type
_built: dict[tuple[Any, str], ParserSpecification] = {}


def _built_once(f: Any, **words: Any) -> ParserSpecification:
    if words["intern_prefix"] or words["extern_prefix"]:  # of a nested class
        return _build(f, **words)
    # In words, because equal numbers of two kinds, as 1 and 1.0, are shown and read differently.
    key = f, repr(words["default_instance"])
    if key not in _built:
        _built[key] = _build(f, **words)
    return _built[key]


ParserSpecification.from_callable_or_type = staticmethod(_built_once)
