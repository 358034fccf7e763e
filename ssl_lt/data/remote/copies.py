"""Copies of single images that lie in an object store, kept on this machine within a limit."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.errors import DiskError

_FOLDER = "images"
_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Copies:
    """The copies of one data set, for all processes of a machine.

    Of a set larger than the limit a share is kept, always the same images: each is read once an
    epoch, so whatever was used longest ago is what will be needed next, and a cache that let go of
    it would hold little that is asked for.

    Attributes:
        folder: of this set alone.
        share: of the images that are kept, 0 ... 1.
    """

    folder: Path
    share: float

    def file(self, key: str) -> Path | None:
        """Where the copy of an object is kept; None: it is not.

        Args:
            key: names the object and its version.
        """
        name = hashlib.sha256(key.encode()).hexdigest()
        if int(name[:8], 16) >= self.share * 2**32:
            return None
        return self.folder / name[:2] / name[2:32]


def open_copies(cache: Path, limit_mib: int, *, source: str, num_bytes: int) -> Copies:
    """The copies of a source; makes room for those that are not there yet.

    Copies of other sources go, the ones used longest ago first, but for what was used within a day:
    another run may be reading it.

    Args:
        cache: folder of all copies.
        limit_mib: of all single images together; 0: no limit.
        source: name of the data.
        num_bytes: of all its images.

    Raises:
        DiskError: the folder cannot be made.
    """
    name = hashlib.sha256(source.encode()).hexdigest()[:32]
    folder = cache / _FOLDER / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"--shard-cache {cache}: {error.strerror}") from error
    limit = limit_mib * 2**20
    if limit == 0:
        return Copies(folder, 1.0)
    _make_room(folder, needed=min(num_bytes, limit), limit=limit)
    return Copies(folder, min(1.0, limit / max(num_bytes, 1)))


def read_copy(path: Path, num_bytes: int) -> bytes | None:
    """What a copy holds; None where there is none, or one that is not whole."""
    with suppress(OSError):
        blob = path.read_bytes()
        if len(blob) == num_bytes:
            os.utime(path)  # used now
            return blob
    return None


def keep_copy(path: Path, blob: bytes) -> None:
    """Writes a copy, which appears whole; without room on the disk there is none."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(exist_ok=True)
        unfinished.write_bytes(blob)
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()


def _make_room(own: Path, *, needed: int, limit: int) -> None:
    copies = []
    for path in own.parent.glob("*/*/*"):
        with suppress(OSError):  # another process removed it
            about = path.stat()
            copies.append((about.st_mtime, about.st_size, path))
    there = sum(size for _, size, path in copies if path.parents[1] == own)
    surplus = sum(size for _, size, _ in copies) + max(0, needed - there) - limit
    for used, size, path in sorted(copies):
        if surplus <= 0 or used > time.time() - _DAY:
            return
        with suppress(OSError):
            path.unlink()
            surplus -= size
