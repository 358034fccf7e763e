"""What a run's page shows beyond numbers: the map of test features, and nearest training images.

They are files of their own beside the page, since `results.json` is for numbers. Either may be
missing.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import from_plain, read_plain, to_plain
from ssl_lt.core.errors import DataError

SCHEMA_VERSION = 1
MAP_SIDE = 1000
MAP_FILE, NEIGHBOURS_FILE = "map.json", "neighbours.json"

T = TypeVar("T", "FeatureMap", "NeighbourStrips")


@dataclass(frozen=True)
class FeatureMap:
    """Test features in the plane; three lists of equal length.

    Attributes:
        x, y: whole numbers in 0 ... `MAP_SIDE`, `y` upwards.
        classes: number of each point's class.
        note: how it was made.
    """

    x: tuple[int, ...]
    y: tuple[int, ...]
    classes: tuple[int, ...]
    note: str
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Thumbnail:
    """A small picture: number of its class, PNG in base64, and how similar it is to the query."""

    class_number: int
    png: str
    similarity: float = 1.0


@dataclass(frozen=True)
class Strip:
    """One test image with its nearest training images, the most similar first."""

    query: Thumbnail
    nearest: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class NeighbourStrips:
    """Strips of a few test images; `note` says how they were chosen."""

    strips: tuple[Strip, ...]
    note: str
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Pictures:
    """Of one run; None where they were not made."""

    feature_map: FeatureMap | None = None
    neighbours: NeighbourStrips | None = None


def write_picture_file(found: FeatureMap | NeighbourStrips, folder: Path) -> None:
    """Writes `map.json` or `neighbours.json`, whole or not at all.

    Raises:
        DiskError: the file cannot be written.
    """
    name = MAP_FILE if isinstance(found, FeatureMap) else NEIGHBOURS_FILE
    text = json.dumps(to_plain(found), separators=(",", ":"), ensure_ascii=False)
    write_text_atomically(folder / name, text + "\n")


def png_base64(picture: Image.Image) -> str:
    """A picture as the text that a page embeds."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def read_pictures(folder: Path, *, num_classes: int) -> Pictures:
    """What of the two files there is in a run's report folder.

    Raises:
        DataError: a file is damaged, of a newer schema, or of other classes; one line that names
            it.
    """
    found, strips = (
        _read(FeatureMap, folder / MAP_FILE),
        _read(NeighbourStrips, folder / NEIGHBOURS_FILE),
    )
    if found is not None:
        if not len(found.x) == len(found.y) == len(found.classes):
            raise DataError(f"{folder / MAP_FILE}: x, y and classes differ in length")
        _check_classes(folder / MAP_FILE, found.classes, num_classes)
    if strips is not None:
        shown = [p.class_number for s in strips.strips for p in (s.query, *s.nearest)]
        _check_classes(folder / NEIGHBOURS_FILE, shown, num_classes)
    return Pictures(found, strips)


def _read(kind: type[T], path: Path) -> T | None:
    if not path.exists():
        return None
    plain = read_plain(path, newest=SCHEMA_VERSION)
    try:
        return from_plain(kind, plain)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _check_classes(path: Path, classes: list[int] | tuple[int, ...], num_classes: int) -> None:
    for c in classes:
        if not 0 <= c < num_classes:
            raise DataError(f"{path}: no class {c} among {num_classes}; evaluate.py makes it anew")
