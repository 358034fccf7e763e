"""A store for tests: `bucket://` URLs are files below a folder, reached through fsspec alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import fsspec
from fsspec.spec import AbstractFileSystem


class Walked(AbstractFileSystem):
    """Lists folder by folder, counts what it is asked for, serves no process but its own."""

    protocol: ClassVar[str] = "walked"
    place: ClassVar[Path]
    listed: ClassVar[list[str]] = []
    fetched: ClassVar[list[str]] = []
    failure: ClassVar[Exception | None] = None

    def __init__(self, **options):
        super().__init__(**options)
        self.pid = os.getpid()

    def ls(self, path, detail=True, **options):
        self._check()
        folder = self.place / path
        if not folder.exists():
            raise FileNotFoundError(path)
        found = [folder] if folder.is_file() else sorted(folder.iterdir())
        about = [self._about(file) for file in found]
        return about if detail else [each["name"] for each in about]

    def cat_file(self, path, **options):
        self._check()
        self.fetched.append(path)
        return (self.place / path).read_bytes()

    def _about(self, file):
        stat = file.stat()
        return {
            "name": str(file.relative_to(self.place)),
            "size": stat.st_size,
            "type": "directory" if file.is_dir() else "file",
            "ETag": f"{stat.st_mtime_ns}-{stat.st_size}",
        }

    def _check(self):
        if self.failure is not None:
            raise self.failure
        if os.getpid() != self.pid:
            raise OSError("the connection is another process's")


class Bucket(Walked):
    """Lists everything at once, as object stores do."""

    protocol = "bucket"

    def find(self, path, **options):
        self._check()
        self.listed.append(path)
        files = [self.place / path] if (self.place / path).is_file() else []
        files += [file for file in sorted((self.place / path).rglob("*")) if file.is_file()]
        return {about["name"]: about for about in map(self._about, files)}


for kind in (Walked, Bucket):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)


def use_bucket(monkeypatch, tmp_path) -> Path:
    """The folder behind `bucket://` and `walked://`, empty, and a cache of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("listed", "fetched"):
        monkeypatch.setattr(Walked, name, [])
    monkeypatch.setattr(Walked, "failure", None)
    monkeypatch.setattr(Walked, "place", tmp_path / "store", raising=False)
    Walked.place.mkdir()
    return Walked.place
