"""Shards by number: files on this machine, or objects elsewhere that are fetched when needed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from ssl_lt.core.disk.urls import file_system, is_local, reason
from ssl_lt.core.errors import ConfigError, DataError, DiskError

_OPEN_SHARDS = 64  # of a process at once
# What stores call what tells one version of an object from another.
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "created")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class ShardFile:
    """A shard where it is kept.

    Attributes:
        url: a path on this machine, or a URL.
        bytes: its size.
        version: that changes when it is written anew, as far as its store tells.
    """

    url: str
    bytes: int
    version: str

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class ShardCache:
    """Where fetched shards are kept, for all processes of a machine.

    Attributes:
        folder: shared by all data sets.
        limit_mib: of shards; the ones used longest ago go first. 0: no limit.
    """

    folder: Path
    limit_mib: int

    def file(self, shard: ShardFile, *more: str) -> Path:
        """A name in the folder for what is made of this version of a shard."""
        what = "\n".join([shard.url, str(shard.bytes), shard.version, *more])
        return self.folder / hashlib.sha256(what.encode()).hexdigest()[:32]

    def lock(self, file: Path) -> FileLock:
        """Held by the process that makes a file of the folder.

        Raises:
            DiskError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"--shard-cache {self.folder}: {error.strerror}") from error
        return FileLock(file.with_suffix(".lock"))


def default_cache_folder() -> Path:
    """`ssl_lt` in the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssl_lt"


def version_of(about: Mapping[str, Any]) -> str:
    """What changes when an object is written anew, of all that its store says of it."""
    return next((str(about[key]) for key in _VERSIONS if key in about), "")


def find_shards(names: str, *, source: str) -> tuple[ShardFile, ...]:
    """The files that `PATTERN::PATTERN::...` names, in order.

    A pattern is a path or a URL that fsspec knows (`s3://...`, `https://...`), with `{000..012}` or
    `{a,b}` for several and `*` for whatever is there; a folder stands for its .tar files.

    Args:
        names: the patterns.
        source: name of the data, for errors.

    Raises:
        ConfigError: an unknown kind of URL, or one whose package is not installed.
        DataError: nothing is there, or something comes twice.
    """
    found: list[ShardFile] = []
    for pattern in names.split("::"):
        for url in _expanded(pattern):
            found += _files(url, source)
    for shard, count in Counter(found).items():
        if count > 1:
            raise DataError(f"{source}: {shard.url} comes twice")
    return tuple(found)


@lru_cache(maxsize=_OPEN_SHARDS)
def open_shard(shard: ShardFile, cache: ShardCache) -> IO[bytes]:
    """A shard for reading; of another machine's, a copy, which is fetched if need be.

    It stays open in this process until many others were opened.

    Raises:
        DataError: it is gone, cannot be fetched, or is another by now.
        DiskError: the cache cannot be written.
    """
    files, path = file_system(shard.url, of=shard.url)
    if is_local(files):
        try:
            return Path(path).open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"{shard.url}: {error.strerror}") from error
    copy = cache.file(shard).with_suffix(".tar")
    with cache.lock(copy):
        if not copy.is_file():
            _fetch(files, path, shard, copy)
            _make_room(cache, keep=copy)
        os.utime(copy)  # used now
        return copy.open("rb", buffering=0)


def _files(url: str, source: str) -> list[ShardFile]:
    if url.startswith("pipe:"):
        raise ConfigError(f"{source}: commands are not run; give paths or URLs")
    files, path = file_system(url, of=source)
    try:
        if files.isdir(path):
            path = f"{path.rstrip('/')}/*.tar"
        paths = sorted(files.glob(path)) if "*" in path else [path]
        found = [
            ShardFile(
                path if is_local(files) else files.unstrip_protocol(path),
                int(about["size"]),
                version_of(about),
            )
            for path, about in ((path, files.info(path)) for path in paths)
        ]
    except FileNotFoundError:
        found = []
    # Packages for stores raise what they like when there is no network or no permission.
    except Exception as error:
        raise DataError(f"{source}: {url}: {reason(error)}") from error
    if not found:
        raise DataError(f"{source}: there is no shard {url}")
    return found


def _fetch(files: Any, path: str, shard: ShardFile, copy: Path) -> None:
    unfinished = copy.with_suffix(".unfinished")
    try:
        files.get_file(path, str(unfinished))
        size = unfinished.stat().st_size
        if size != shard.bytes:
            raise DataError(f"{shard.url}: has {size} bytes by now, had {shard.bytes}")
        unfinished.replace(copy)
    except DataError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DiskError(f"--shard-cache {copy.parent}: {error.strerror}") from error
        raise DataError(f"{shard.url}: cannot be fetched: {reason(error)}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _make_room(cache: ShardCache, *, keep: Path) -> None:
    """Removes copies that were used longest ago, but for those that are being opened.

    A process that has one open reads on.
    """
    if cache.limit_mib == 0:
        return
    copies = []
    for path in cache.folder.glob("*.tar"):
        with suppress(OSError):  # another process removed it
            about = path.stat()
            copies.append((about.st_mtime_ns, about.st_size, path))
    total = sum(size for _, size, _ in copies)
    for _, size, path in sorted(copies):
        if total <= cache.limit_mib * 2**20:
            return
        with suppress(Timeout):
            if path != keep:
                with cache.lock(path).acquire(timeout=0):
                    path.unlink(missing_ok=True)
                    total -= size


def _expanded(pattern: str) -> list[str]:
    """`a{0..2}` to a0 a1 a2, and `{a,b}` to a b; a range keeps the width of its first number."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    between = _RANGE.fullmatch(match[1])
    choices: Sequence[str] = match[1].split(",")
    if between:
        first, last = between.groups()
        choices = [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [url for choice in choices for url in _expanded(f"{before}{choice}{after}")]
