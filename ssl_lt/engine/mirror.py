"""A copy of a run folder in an object store, made while the run goes on.

Training needs what object stores do not have: renames, locks, syncs. So a run stays on a disk, and
what is new of it is copied elsewhere in the background. `mirror.json`, written last, lists the
files that belong together: what is not in it is not there, so that a copy that was interrupted is
invisible. Checkpoints besides have their manifest last.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from ssl_lt.core.errors import CheckpointError, ConfigError, DiskError
from ssl_lt.core.files import file_sha256
from ssl_lt.core.folders import new_folder
from ssl_lt.core.urls import file_system, is_local, reason
from ssl_lt.engine.run_folder import RunFolder

INDEX = "mirror.json"
_MANIFEST = "manifest.json"
_SECONDS_BETWEEN_LOOKS = 1.0


class Mirror:
    """Copies a run folder to `URL/NAME` after each checkpoint and at the end, in a thread.

    A context: within it checkpoints are copied; a failure is a warning, and what is lacking goes
    with the next one. Left in good order, it waits for the last copy.

    Args:
        folder: of the run; it may be made later.
        url: that fsspec knows, without credentials.
        warn: takes a line.

    Raises:
        ConfigError: the URL is unknown, its package is missing, or the store has another run of
            that name.
        DiskError: the store does not answer; on leaving, that the last copy is not complete.
    """

    def __init__(self, folder: RunFolder, url: str, *, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder.path, warn
        self.url = f"{url.rstrip('/')}/{folder.path.name}"
        self._files, self._root = _open(self.url, flag="--mirror")
        self._index = _read_index(self._files, self._root, url=f"--mirror {self.url}")
        # Name -> SHA-256 of what the store has ("": perhaps not all of it), listed or not; and size
        # and time of the local file that it was.
        self._copied = dict(self._index or {})
        self._seen: dict[str, tuple[int, int]] = {}
        self._checkpoints: set[Path] = set()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mirror", daemon=True)
        _check_same_run(folder, self._copied, self.url)

    def copy(self) -> None:
        """Copies what is new and removes what is gone; nothing of it counts before all is there.

        Raises:
            DiskError: the store does not take it.
        """
        try:
            while True:
                with suppress(_MovedError):
                    self._copy_once()
                    return
        except Exception as error:  # packages for stores raise what they like
            raise DiskError(
                f"--mirror {self.url}: not copied, all of it is in {self._folder}: {reason(error)}"
            ) from error

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave.set()
        self._thread.join()
        if error is None:
            self.copy()
        else:  # stopped by a signal, for example, with the state saved
            self._copy_checkpoints()

    def _watch(self) -> None:
        while not self._leave.wait(_SECONDS_BETWEEN_LOOKS):
            self._copy_checkpoints()

    def _copy_checkpoints(self) -> None:
        """Where there is one that was not there before; a failure is said and not tried at once."""
        try:  # of a series, each of its runs has some
            places = ("checkpoints/step-*", "*/checkpoints/step-*")
            found = {path for place in places for path in self._folder.glob(place)}
        except FileNotFoundError:  # a folder went while it was looked at
            return
        if found <= self._checkpoints:
            return
        self._checkpoints = found
        try:
            self.copy()
        except DiskError as failure:
            self._warn(f"warning: {failure}; the next checkpoint tries again")

    def _copy_once(self) -> None:
        index = {}
        for name in sorted(self._names(), key=lambda name: (name.endswith(_MANIFEST), name)):
            index[name] = self._put(name)
        if index and index != self._index:
            text = json.dumps({"files": index}, indent=1, sort_keys=True)
            with self._files.transaction:  # on a local disk: renamed when it is whole
                self._files.pipe_file(f"{self._root}/{INDEX}", text.encode())
            self._index = index
        for name in sorted(self._copied.keys() - index.keys(), key=_manifests_first):
            with suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")
            del self._copied[name]

    def _names(self) -> Iterator[str]:
        """Files of the run relative to its folder; not what is being written, nor its lock."""
        for place, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = PurePosixPath(Path(place).relative_to(self._folder).as_posix())
            for name in files:
                if not name.startswith(".") and name not in ("lock", INDEX):
                    yield str(relative / name)

    def _put(self, name: str) -> str:
        """Copies a file if the store has not got it; returns its digest."""
        path, target = self._folder / name, f"{self._root}/{name}"
        try:
            stat = path.stat()
            seen = (stat.st_size, stat.st_mtime_ns)
            if self._seen.get(name) == seen:
                return self._copied[name]
            if path.suffix == ".jsonl":  # it grows meanwhile
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                put = partial(self._files.pipe_file, target, content)
            else:
                digest = file_sha256(path)
                put = partial(self._files.put_file, str(path), target)
            if self._copied.get(name) != digest:
                self._copied[name] = ""
                put()
        except FileNotFoundError as error:
            if path.exists():
                raise
            raise _MovedError from error
        self._copied[name], self._seen[name] = digest, seen
        return digest


def fetch_run(url: str, path: Path) -> None:
    """Makes a run folder of what a mirror has.

    Args:
        url: of the run itself, without credentials.
        path: that is not there yet.

    Raises:
        ConfigError: no run is there, or the URL is unknown.
        CheckpointError: its list of files is damaged, or leads outside of the folder.
        DiskError: the store does not give it, or the folder cannot be written.
    """
    files, root = _open(url, flag="--resume")
    index = _read_index(files, root, url=f"--resume {url}")
    if index is None:
        raise ConfigError(f"--resume {url}: no run is there (no {INDEX} in it)")
    with new_folder(path) as temporary:
        for name in index:
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                files.get_file(f"{root}/{name}", str(target))
            except Exception as error:
                raise DiskError(
                    f"--resume {url}: {name} cannot be fetched: {reason(error)}"
                ) from error


class _MovedError(Exception):
    """A file went while it was looked at: an old checkpoint was removed."""


def _open(url: str, *, flag: str) -> tuple[Any, str]:
    files, root = file_system(url, of=f"{flag} {url}")
    if is_local(files):  # object stores have no folders to make
        files = LocalFileSystem(auto_mkdir=True)
    return files, root.rstrip("/")


def _read_index(files: Any, root: str, *, url: str) -> dict[str, str] | None:
    """Name -> SHA-256; None where nothing is."""
    try:
        content = files.cat_file(f"{root}/{INDEX}")
    except FileNotFoundError:
        return None
    except Exception as error:
        raise DiskError(f"{url}: cannot be read: {reason(error)}") from error
    try:
        index = {str(name): str(digest) for name, digest in json.loads(content)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{url}/{INDEX}: not a list of files") from error
    for name in index:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0] == "/" or str(PurePosixPath(*parts)) != name:
            raise CheckpointError(f"{url}/{INDEX}: {name!r} is not a file of a run")
    return index


def _check_same_run(folder: RunFolder, copied: dict[str, str], url: str) -> None:
    if not copied:
        return
    own = file_sha256(folder.config) if folder.config.is_file() else None
    if copied.get(folder.config.name) != own:
        raise ConfigError(
            f"--mirror {url} has another run, which is never overwritten; "
            f"--resume {url} continues it, another --run-dir starts anew"
        )


def _manifests_first(name: str) -> tuple[bool, str]:
    return not name.endswith(_MANIFEST), name
