"""Files by path or URL, here or in a store, through fsspec."""

from __future__ import annotations

from pathlib import Path
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


def local_path(place: str, *, of: str) -> Path | None:
    """The path on this machine that a text names, as `file://` URLs do too; None: a store's URL.

    Raises:
        ConfigError: as `file_system` says.
    """
    if "://" not in place:
        return Path(place)
    files, path = file_system(place, of=of)
    return Path(path) if is_local(files) else None


def parent(place: str) -> str:
    """The folder of a file, by its path or URL."""
    scheme, separator, path = place.rpartition("://")
    return scheme + separator + (path.rpartition("/")[0] or "/" * path.startswith("/"))


def without_slash(url: str) -> str:
    """A URL without slashes at its end, but for those of its scheme."""
    scheme, separator, path = url.rpartition("://")
    return scheme + separator + path.rstrip("/")


def is_local(files: Any) -> bool:
    """Whether a file system is this machine's own."""
    return isinstance(files, LocalFileSystem)


def reason(error: BaseException) -> str:
    """What an error of a store says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
