"""An object store in this process's memory that breaks when it is told to."""

from __future__ import annotations

from typing import ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Faulty(MemoryFileSystem):
    """`faulty://`: after `left` more writes each one fails; None: none does."""

    protocol = "faulty"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    written: ClassVar = []
    left = None

    @classmethod
    def reset(cls):
        """Empty, and nothing breaks."""
        cls.store.clear()
        cls.written.clear()
        cls.left = None

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def _count(self, path):
        if Faulty.left is not None:
            if Faulty.left == 0:
                raise ConnectionError("no route\nto host")
            Faulty.left -= 1
        Faulty.written.append(path)

    def put_file(self, lpath, rpath, **kwargs):
        self._count(rpath)
        super().put_file(lpath, rpath, **kwargs)

    def pipe_file(self, path, value, **kwargs):
        self._count(path)
        super().pipe_file(path, value, **kwargs)


fsspec.register_implementation("faulty", Faulty, clobber=True)


def names(run):
    """Files of a run folder, relative to it."""
    return {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()}
