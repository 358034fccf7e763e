"""The house stays as drawn: small folders, short files, no circles, rooms that say who comes in."""

from __future__ import annotations

import ast
from collections import defaultdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ssl_lt"
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
MOST_FILES, MOST_LINES = 14, 300


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of ssl_lt that it imports."""
    graph = grimp.build_graph("ssl_lt")
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_can_be_seen_at_a_glance(folder):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    if folder.name != "losses":  # a file a loss
        assert len(files) <= MOST_FILES
    too_long = [
        path.name for path in files if len(path.read_text("utf-8").splitlines()) > MOST_LINES
    ]
    assert not too_long


def test_modules_import_each_other_in_no_circle():
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert state.get(name) != "open", f"circle: {' -> '.join([*path, name])}"
        if name not in state:
            state[name] = "open"
            for other in sorted(imports()[name]):
                visit(other, (*path, name))
            state[name] = "done"

    for name in sorted(imports()):
        visit(name, ())


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_says_what_it_is_for_and_what_others_import(folder):
    room = ".".join(folder.relative_to(ROOT).parts)
    told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    assert told.split(".")[0].strip()
    entered = defaultdict(set)
    for name, imported in imports().items():
        for other in imported:
            inside, _, module = other.rpartition(".")
            if inside == room and not name.startswith(f"{room}."):
                entered[module].add(name)
    unnamed = [module for module in entered if f"`{module}`" not in told]
    assert not unnamed, f"{room}: others import {unnamed}, which its docstring does not name"


def test_every_folder_of_tests_is_run(request):
    left_out = request.config.getini("norecursedirs")
    for folder in (ROOT / "tests").rglob("*/"):
        if folder.name != "__pycache__":
            assert not any(fnmatch(folder.name, pattern) for pattern in left_out), folder
