"""Files by path or URL, here or in a store, through fsspec."""

from __future__ import annotations

from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ssl_lt.core.errors import ConfigError


def file_system(url: str, *, of: str) -> tuple[Any, str]:
    """The file system that a path or URL belongs to, and its path there.

    Args:
        url: as fsspec knows them; what credentials it needs is found by its package.
        of: what is said to be at fault, such as a flag with its value.

    Raises:
        ConfigError: a kind of URL that is not known, or whose package is not installed.
    """
    try:
        files, path = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{of}: {reason(error)}") from error
    return files, str(path)


def is_local(files: Any) -> bool:
    """Whether a file system is this machine's own."""
    return isinstance(files, LocalFileSystem)


def reason(error: BaseException) -> str:
    """What an error of a store says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
