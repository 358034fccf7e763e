"""Files that are written whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ssl_lt.core.errors import DiskError


def sync_path(path: Path) -> None:
    """Waits until a file or folder is on the disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exists(path: Path) -> bool:
    """Whether something is there; nothing is where a path is too long or cannot be looked up."""
    try:
        return path.exists()
    except OSError:
        return False


def file_sha256(path: Path) -> str:
    """SHA-256 of what a file holds, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows as lines of CSV, in the encoding of `write_text_atomically`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def write_text_atomically(path: Path, text: str) -> None:
    """`write_atomically` of UTF-8 text; bytes of file names that are none are escaped.

    The escape is one of JSON and YAML: what reads them has the same name again.
    """
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes beside `path`, syncs, then renames: a reader sees the old file or the new one.

    Args:
        path: of the file; its folder is made.
        write: puts everything into an open file.

    Raises:
        DiskError: the disk is full or may not be written; names the file.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            write(file)
        sync_path(temporary)
        temporary.chmod(0o644)  # temporary files are private; a run is for others to read
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        raise DiskError(f"{path}: cannot be written: {error.strerror or error}") from error
