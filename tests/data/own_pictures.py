"""Small pictures of one's own, for the sources that list them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from ssl_lt.core.errors import UserError
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_complete, open_source


def draw(path: Path, value: int = 0) -> Path:
    """A PNG of 4 x 4 pixels, red as `value` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(value))
    return path


def png(value: int) -> bytes:
    blob = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(blob, "PNG")
    return blob.getvalue()


def opened(name, *, hold_out=True, **options):
    return (open_source if hold_out else open_complete)(str(name), SourceOptions(**options))


def refusal(name, **options) -> str:
    """What is said of a source that cannot be used: one line."""
    with pytest.raises(UserError) as caught:
        opened(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(table) -> list[str]:
    return [table.name(row) for row in range(len(table))]


def reds(table) -> list[int]:
    """The value each picture was drawn with."""
    return [table.read(row).getpixel((0, 0))[0] for row in range(len(table))]
