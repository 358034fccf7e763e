"""Paths and URLs: which file system they belong to, and that they hold no credentials."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ssl_lt.core.errors import ConfigError

# user:password@ before a host, and keys or signatures among a URL's parameters.
_SECRET = re.compile(
    r"(?<=://)[^/@\s]+(?=@)|(?<=[?&])[^=&\s]*(?:token|sig|key|secret|password)[^=&\s]*=[^&\s]+",
    re.IGNORECASE,
)


def local_path(place: str, *, of: str) -> Path:
    """The path on this machine that a text names.

    Args:
        place: what the user gave.
        of: what is at fault if it is a URL, such as a flag with its value.

    Raises:
        ConfigError: it is a URL.
    """
    if "://" in place:
        raise ConfigError(
            f"{of}: single images are not read from URLs: pack them into tar shards "
            "(--data wds:URLS), or mount or copy the folder and give its path"
        )
    return Path(place)


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


def check_no_secret(flag: str, name: str) -> None:
    """Refuses a URL with credentials, before it stands in a log, a run folder or a report.

    Raises:
        ConfigError: names the flag, with the secret masked.
    """
    if _SECRET.search(name):
        raise ConfigError(
            f"{flag} {without_secret(name)}: has credentials, which every run folder would show: "
            "give them by the environment instead"
        )


def without_secret(name: str) -> str:
    """The same text with credentials masked."""
    return _SECRET.sub("***", name)
