"""Tyro builds its parser anew at each call, which takes most of the time of reading a command line.

Here the one of a class and its defaults is built once a process. Nothing changes a parser. With a
tyro that keeps it elsewhere, tests are slower and the same.
"""

from __future__ import annotations

from typing import Any


def _build_once() -> None:
    try:
        from tyro._parsers import ParserSpecification
    except ImportError:
        return
    build = ParserSpecification.from_callable_or_type
    built: dict[tuple[Any, str], Any] = {}

    def built_once(f: Any, **words: Any) -> Any:
        if words.get("intern_prefix", True) or words.get("extern_prefix", True):  # a nested class
            return build(f, **words)
        # In words: equal numbers of two kinds, as 1 and 1.0, are shown and read differently.
        key = f, repr(words["default_instance"])
        if key not in built:
            built[key] = build(f, **words)
        return built[key]

    ParserSpecification.from_callable_or_type = staticmethod(built_once)


_build_once()
