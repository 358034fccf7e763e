"""Which file a path means that is written otherwise: without suffix or folder, in another case."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ssl_lt.core.errors import DataError, shortened
from ssl_lt.data.images.formats import has_image_suffix, is_junk

_MOST_FILES = 2_000_000  # a folder with more was hardly meant


class FileFinder:
    """Looks for files below a folder; the folder is walked through once, and only if need be.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inside: dict[str, frozenset[str]] = {}
        self._found: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        """Which paths were found that were written otherwise, for people."""
        if not self._found:
            return []
        number, (given, file) = len(self._found), next(iter(self._found.items()))
        return [f"{number:,} paths stand for the file that fits, as {given} for {file}"]

    def find(self, path: str, *, where: str) -> str:
        """The path itself where there is such a file, or else the only one that it fits.

        A file fits whose path ends as the given one, name by name, if case, the kind of slash, the
        form of accents and a suffix that is not given do not count. A folder that is given has to
        be there: two folders often have files of one name.

        Args:
            path: relative to the root, normalised.
            where: it is given, for errors.

        Returns:
            A path relative to the root; the given one where nothing fits.

        Raises:
            DataError: several fit.
        """
        if self._is_there(path):
            return path
        plain = os.path.normpath(path.replace("\\", "/"))
        for spelling in (_composed, _folded):
            found = self._ending_with(plain, spelling)
            if len(found) == 1:
                self._found[path] = found[0]
                return found[0]
            if found:
                raise DataError(
                    f"{where}: {path} fits {len(found)} files, {shortened(found)}: write the path "
                    "in full, or give --data-root"
                )
        return path

    def _is_there(self, path: str) -> bool:
        """By the list of its folder: one call for all files in it."""
        folder, name = os.path.split(path)
        if folder not in self._inside:
            try:
                with os.scandir(self.root / folder) as entries:
                    self._inside[folder] = frozenset(entry.name for entry in entries)
            except OSError:
                self._inside[folder] = frozenset()
        return name in self._inside[folder]

    def _ending_with(self, path: str, spelling: Callable[[str], str]) -> list[str]:
        """Files whose path ends so, with or without their suffix."""
        names = spelling(path).split("/")
        found = []
        for file in self._by_name[_folded(names[-1])]:
            written = spelling(file)
            if names in [end.split("/")[-len(names) :] for end in _with_or_without_suffix(written)]:
                found.append(file)
        return sorted(found)

    @cached_property
    def _by_name(self) -> defaultdict[str, list[str]]:
        """Name in lower case, with and without its suffix -> images, relative to the root."""
        found = defaultdict[str, list[str]](list)
        if len(self.root.resolve().parts) == 1:  # a whole machine
            return found
        seen, number = set[str](), 0
        for place, folders, files in os.walk(self.root, followlinks=True):
            real, number = os.path.realpath(place), number + len(files)
            if real in seen:
                folders.clear()
                continue
            if number > _MOST_FILES:
                return defaultdict(list)
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_junk(name))
            inside = Path(place).relative_to(self.root)
            for name in files:
                if not is_junk(name) and has_image_suffix(name):
                    for key in _with_or_without_suffix(_folded(name)):
                        found[key].append((inside / name).as_posix())
        return found


def _with_or_without_suffix(name: str) -> tuple[str, str]:
    return name, name.rpartition(".")[0]


def _composed(name: str) -> str:
    """In Unicode's composed form: some systems store letters and accents apart."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(name).casefold()
