"""The images below a folder, through links too, and what is left out there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.errors import DataError
from ssl_lt.data.images.formats import has_image_suffix, is_image, is_junk, suffix_of

LINK_BACK = "link to a folder it is in"


@dataclass(frozen=True)
class Listing:
    """What a folder holds, at any depth.

    Attributes:
        images: names relative to the folder, sorted.
        left_out: suffix, or another reason -> files that are no images, and links that lead back.
    """

    images: list[str]
    left_out: Counter[str]


def list_images(root: Path) -> Listing:
    """Finds the images of a folder; hidden files and by-products of viewers do not count.

    Links are followed, once what is not behind a link has been listed. A folder that several
    lead to is listed once, and a link to a folder it stands in leads nowhere.

    Raises:
        DataError: a folder that cannot be read, or a link to nothing.
    """
    images: list[str] = []
    left_out: Counter[str] = Counter()
    seen, starts = set[str](), [root]
    for start in starts:
        for place, folders, files in os.walk(start, onerror=_refuse):
            real = os.path.realpath(place)
            # By path and not by inode: some file systems give every folder the same.
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_junk(name))
            links = [Path(place, name) for name in folders if Path(place, name).is_symlink()]
            behind = {link: Path(os.path.realpath(link)) for link in links}
            starts += [link for link, to in behind.items() if not Path(real).is_relative_to(to)]
            left_out[LINK_BACK] += sum(Path(real).is_relative_to(to) for to in behind.values())
            inside = _sort_out(place, files)
            folder = Path(place).relative_to(root)
            before = "" if folder == Path() else f"{folder}/"
            images += [before + name for name in inside.images]
            left_out += inside.left_out
    return Listing(sorted(images), +left_out)


def loose_images(folder: Path) -> Listing:
    """The images of a folder that are in none of its sub-folders; see `list_images`."""
    return _sort_out(str(folder), [entry.name for entry in _entries(folder) if not entry.is_dir()])


def sub_folders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted; links to folders count.

    Raises:
        DataError: it cannot be read, or has a link to nothing.
    """
    entries = [entry for entry in _entries(root) if not is_junk(entry.name)]
    for entry in entries:
        if entry.is_symlink():
            check_link(Path(entry.path))
    return sorted(entry.name for entry in entries if entry.is_dir())


def check_link(path: Path) -> None:
    """Refuses a link to nothing that may have led to a folder; an image is missed when it is read.

    Raises:
        DataError: names the link and where it leads.
    """
    if not has_image_suffix(path.name) and path.is_symlink() and not path.exists():
        raise DataError(f"{path}: is a link to {path.readlink()}, which is not there")


def _sort_out(place: str, names: Iterable[str]) -> Listing:
    """Which files of one folder are images, and what else there is."""
    images: list[str] = []
    left_out: Counter[str] = Counter()
    for name in names:
        if is_junk(name):
            continue
        if has_image_suffix(name):  # and is not looked at: there may be millions
            images.append(name)
            continue
        check_link(Path(place, name))
        if is_image(Path(place, name)):
            images.append(name)
        else:
            left_out[suffix_of(name)] += 1
    return Listing(sorted(images), left_out)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def _refuse(error: OSError) -> None:
    """Left to itself, `os.walk` passes over folders it may not read."""
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
