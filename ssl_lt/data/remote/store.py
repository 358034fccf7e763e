"""A place in an object store: listed once, and read object by object through fsspec."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from ssl_lt.core.errors import DataError
from ssl_lt.core.urls import file_system, reason, without_slash
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.remote.copies import Copies, open_copies
from ssl_lt.data.remote.shards import default_cache_folder, version_of


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store's listing says of an object; `version` changes when it is written anew."""

    bytes: int
    version: str


@dataclass(frozen=True)
class StoreFolder:
    """A place in a store. It holds no connection, so that processes can be given copies of it.

    Attributes:
        url: without a slash at its end.
        copies: that are kept of what is below it.
    """

    url: str
    copies: Copies

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> StoreFolder:
        return StoreFolder(f"{self.url}/{name}", self.copies)


def fetch(url: str, name: str = "") -> bytes:
    """An object by its URL, or by its name below one.

    The file system is asked for each time: fsspec keeps one for each process, and a connection must
    not go along into a worker.

    Raises:
        OSError: it is not there or cannot be fetched; says why.
    """
    files, root = file_system(url, of=url)
    try:
        blob: bytes = files.cat_file(f"{root.rstrip('/')}/{name}" if name else root)
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "no such file") from error
    # Packages for stores raise what they like when there is no network or no permission.
    except Exception as error:
        raise OSError(errno.EIO, f"cannot be fetched: {reason(error)}") from error
    return blob


def find_objects(url: str, *, source: str) -> dict[str, ObjectInfo]:
    """Every object below a URL, by its name relative to it, from one listing; in order of names.

    Raises:
        ConfigError: an unknown kind of URL, or one whose package is not installed.
        DataError: the store cannot be listed, or does not say how large things are.
    """
    files, root = file_system(url, of=source)
    below = root.rstrip("/") + "/"
    try:
        found = files.find(root, detail=True) if _lists_flat(files) else _walked(files, root)
        files.invalidate_cache()  # of a million objects it is large, and workers inherit it
    except FileNotFoundError:
        found = {}
    except Exception as error:  # see `fetch`
        raise DataError(f"{source}: {url} cannot be listed: {reason(error)}") from error
    objects = {}
    for path, about in sorted(found.items()):
        if not path.startswith(below):
            continue  # the URL is that of an object
        if about.get("size") is None:
            raise DataError(
                f"{source}: {url} does not say how large its files are, as web servers do not: "
                "pack them into shards, which wds: reads from there"
            )
        objects[path.removeprefix(below)] = ObjectInfo(int(about["size"]), version_of(about))
    return objects


def _lists_flat(files: Any) -> bool:
    """Whether a file system has a way of its own to list all that is below a place."""
    kind = type(files)
    if issubclass(kind, AsyncFileSystem):
        return kind._find is not AsyncFileSystem._find
    return kind.find is not AbstractFileSystem.find


def _walked(files: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """The same, folder by folder: fsspec's own walk passes over those that it cannot list."""
    found, folders = {}, [root.rstrip("/")]
    while folders:
        folder = folders.pop()
        for about in files.ls(folder, detail=True):
            path = about["name"].rstrip("/")
            if about["type"] != "directory":
                found[path] = about
            elif path != folder:
                folders.append(path)
    return found


def open_store(
    url: str, objects: Mapping[str, ObjectInfo], options: SourceOptions, *, source: str
) -> StoreFolder:
    """A place in a store with room for the copies of its images.

    Args:
        url: of the place.
        objects: the images that will be read.
        options: with the folder of the copies and their limit.
        source: name of the data.
    """
    copies = open_copies(
        options.shard_cache or default_cache_folder(),
        options.shard_cache_mib,
        source=source,
        num_bytes=sum(about.bytes for about in objects.values()),
    )
    return StoreFolder(without_slash(url), copies)
