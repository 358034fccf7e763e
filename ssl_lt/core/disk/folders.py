"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_lt.core.disk.files import sync_path
from ssl_lt.core.errors import ConfigError, DiskError


@contextmanager
def create_dir_atomically(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` to fill with files; at the end it is `path`.

    Where the block raises, nothing of it stays.

    Args:
        path: must not be there at the end, unless it is empty.

    Raises:
        DiskError: a folder cannot be made, written or renamed.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path_in_it in temporary.rglob("*"):
            if path_in_it.is_file():
                path_in_it.chmod(0o644)  # some libraries write private files; others read a run
            sync_path(path_in_it)
        sync_path(temporary)
        temporary.rename(path)
        sync_path(path.parent)
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        raise DiskError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replace_dir_atomically(path: Path) -> Iterator[Path]:
    """`create_dir_atomically` in the place of an older folder, which stays if the block raises.

    Args:
        path: made anew; an older one is replaced.

    Raises:
        DiskError: a folder cannot be made, written or renamed.
    """
    older = path.with_name(f".{path.name}-{os.getpid()}-older")
    try:
        with create_dir_atomically(path) as temporary:
            yield temporary
            if path.exists():
                path.rename(older)
    finally:
        shutil.rmtree(older, ignore_errors=True)


def check_replaceable(path: Path, *, marker: str, flag: str) -> None:
    """Refuses to replace what is not an earlier output of the same command.

    Args:
        path: where a folder is to be written.
        marker: a file that every such folder has.
        flag: named in the error.

    Raises:
        ConfigError: there is a file, or a folder with other things in it.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError(f"{flag}: {path} is a file, not a folder")
    if any(path.iterdir()) and not (path / marker).is_file():
        raise ConfigError(f"{flag}: {path} is not empty and has no {marker}: it is not replaced")
