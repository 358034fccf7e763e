"""A table that is written batch by batch and goes on, after a kill, where it was.

Beside `OUTPUT` there is `OUTPUT.partial` until the table is complete: what was asked for, and after
each batch how far it is. A batch counts once its line stands there; what was written of a later one
is dropped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ssl_lt.core.disk.files import csv_lines, sync_path
from ssl_lt.core.errors import ConfigError, DataError, DiskError

_MOST_TOLD = 60  # signs; digests and priors of many classes help nobody
# Name of a column -> its values.
Columns = Mapping[str, Sequence[Any]]


class Sink(Protocol):
    """What rows are written into."""

    def size(self) -> int:
        """How much there is, in units of its own."""

    def resume(self, size: int) -> None:
        """Drops what is behind `size`."""

    def write(self, columns: Columns) -> int:
        """Adds rows for good; the new size."""

    def finish(self) -> None:
        """Makes the table complete; may be called again after a kill."""


class CsvSink:
    """Lines of the table itself; sizes are bytes."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, names

    def size(self) -> int:
        """See `Sink`."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def resume(self, size: int) -> None:
        """See `Sink`."""
        with self.path.open("ab") as file:
            file.truncate(size)

    def write(self, columns: Columns) -> int:
        """See `Sink`."""
        head = [self.names] if self.size() == 0 else []
        rows = zip(*(columns[name] for name in self.names), strict=True)
        with self.path.open("ab") as file:
            file.write(csv_lines([*head, *rows]))
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def finish(self) -> None:
        """See `Sink`: a table without rows has its head."""
        if self.size() == 0:
            self.write({name: () for name in self.names})


class PartsSink:
    """Parquet files in a folder beside the table, which become one at the end; sizes are files.

    Args:
        path: of the table.
        to_arrow: columns -> a table of Arrow's.
        join: (parts in their order, path) -> writes the table, whole or not at all.
    """

    def __init__(
        self,
        path: Path,
        to_arrow: Callable[[Columns], Any],
        join: Callable[[Sequence[Path], Path], None],
    ) -> None:
        self.path, self.folder = path, _parts_of(path)
        self.to_arrow, self.join = to_arrow, join

    def size(self) -> int:
        """See `Sink`."""
        return len(self._parts())

    def resume(self, size: int) -> None:
        """See `Sink`."""
        for part in self._parts()[size:]:
            part.unlink()

    def write(self, columns: Columns) -> int:
        """See `Sink`."""
        import pyarrow.parquet as pq

        number = self.size()
        self.folder.mkdir(exist_ok=True)
        part = self.folder / f"{number:08d}.parquet"
        unfinished = part.with_suffix(".tmp")
        pq.write_table(self.to_arrow(columns), unfinished)
        sync_path(unfinished)
        unfinished.replace(part)
        return number + 1

    def finish(self) -> None:
        """See `Sink`.

        Raises:
            DataError: there are no parts.
        """
        parts = self._parts()
        if not parts:
            listed = unreadable_list(self.path)
            raise DataError(f"--output: none of the images could be read, see {listed}")
        self.join(parts, self.path)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))


class Output:
    """The table, and how far it is.

    Attributes:
        done: rows of the source that were looked at.
        unreadable: name and reason of those that have no row.

    Args:
        path: of the table.
        sink: that writes it.
        request: what was asked for, by flag; it goes on for the same request alone.

    Raises:
        ConfigError: it is complete, or was begun for another request.
        DiskError: it cannot be written.
    """

    def __init__(self, path: Path, sink: Sink, request: Mapping[str, Any]) -> None:
        refuse_complete(path)
        self.path, self.sink, self.partial = path, sink, _partial_of(path)
        self.done, self.unreadable = 0, list[tuple[str, str]]()
        plain = json.loads(json.dumps(request))
        try:
            if self.partial.is_file():
                self._resume(plain)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                sink.resume(0)
                self._note(plain)
        except OSError as error:
            raise _not_written(path, error) from error

    def write(
        self, columns: Columns, *, done: int, unreadable: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Adds the rows of a batch, for good.

        Args:
            columns: of the rows; may have none.
            done: rows of the source that were looked at, with this batch.
            unreadable: name and reason of those of the batch that have no row.
        """
        try:
            empty = not len(next(iter(columns.values())))
            size = self.sink.size() if empty else self.sink.write(columns)
            self._note({"done": done, "size": size, "unreadable": list(unreadable)})
        except OSError as error:
            raise _not_written(self.path, error) from error
        self.done = done
        self.unreadable += unreadable

    def finish(self) -> None:
        """The table is complete.

        Raises:
            DataError: it has no rows and cannot be written without; nothing is left to go on with.
            DiskError: it cannot be written.
        """
        try:
            if self.unreadable:
                lines = "".join(f"{name}\t{reason}\n" for name, reason in self.unreadable)
                listed = unreadable_list(self.path)
                listed.write_bytes(lines.encode(errors="backslashreplace"))
            try:
                self.sink.finish()
            except DataError:
                self.partial.unlink()
                raise
            self.partial.unlink()
        except OSError as error:
            raise _not_written(self.path, error) from error
        shutil.rmtree(_parts_of(self.path), ignore_errors=True)

    def _resume(self, request: Any) -> None:
        """Takes the last batch that is whole in both files."""
        first, *lines = self.partial.read_bytes().splitlines(keepends=True) or [b""]
        was = _entry(first)
        if was is None:  # killed before it began
            self.partial.unlink()
            self.sink.resume(0)
            self._note(request)
            return
        different = [key for key in request if was.get(key) != request[key]]
        if different:
            key = different[0]
            values = f" ({was.get(key)}, now {request[key]})"
            raise ConfigError(
                f"--output: {self.path} was begun with another {key}"
                f"{values if len(values) < _MOST_TOLD else ''}: go on with that, or remove it and "
                f"{self.partial.name}"
            )
        size, kept, there = 0, len(first), self.sink.size()
        for line in lines:
            entry = _entry(line)
            if entry is None or entry["size"] > there:
                break
            size, self.done = entry["size"], entry["done"]
            self.unreadable += [(name, reason) for name, reason in entry["unreadable"]]
            kept += len(line)
        with self.partial.open("ab") as file:
            file.truncate(kept)
        self.sink.resume(size)

    def _note(self, entry: Any) -> None:
        with self.partial.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def refuse_complete(path: Path, *others: Path) -> None:
    """Refuses what is there already and is no table that was left unfinished.

    Args:
        path: of the table.
        others: files that are written with it.

    Raises:
        ConfigError: one of them exists.
    """
    for one in (path, *others):
        if one.exists() and not _partial_of(path).is_file():
            raise ConfigError(
                f"--output: {one} exists and is never overwritten: remove it, or give another name"
            )


def unreadable_list(path: Path) -> Path:
    """Where the images are listed that have no row in a table."""
    return path.with_name(f"{path.stem}.unreadable.txt")


def _partial_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _parts_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


def _entry(line: bytes) -> Any:
    """What a line says; None of one that is torn."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _not_written(path: Path, error: OSError) -> DiskError:
    return DiskError(f"--output: {path}: cannot be written: {error.strerror or error}")
