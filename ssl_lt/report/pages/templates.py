"""Pages from templates: one style sheet, no network, nothing in a page that is not escaped."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from ssl_lt.evaluate.picture_records import png_base64
from ssl_lt.report.figures.colours import DARK, LIGHT
from ssl_lt.report.tables.export import markdown_text, to_csv, to_markdown
from ssl_lt.report.tables.table import Table

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet.

    Attributes:
        pixels: (H, W, 3) uint8.
        name: says which sample it is, for those who do not see it.
        lines: what stands below it.
    """

    pixels: NDArray[np.uint8]
    name: str
    lines: tuple[str, ...]


def render(name: str, /, **values: Any) -> str:
    """A template of this folder, as text; a value that is missing is an error."""
    return template(name).render(values)


def template(name: str) -> Template:
    """A template of this folder."""
    return _templates().get_template(name)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {
        "csv_data": _csv_data,
        "style": Markup(_style_sheet()),
        "encoded": lambda tile: png_base64(Image.fromarray(tile.pixels)),
    }
    templates.filters |= {"md": markdown_text, "md_table": to_markdown}
    return templates


def _style_sheet() -> str:
    """`page.css` below the colours it names."""
    light, dark = (
        ":root { " + " ".join(f"--{name}: {colour};" for name, colour in colours.items()) + " }"
        for colours in (LIGHT, DARK)
    )
    rules = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{rules}"


def _csv_data(table: Table) -> str:
    """A whole table as the target of a link: the page stays one file."""
    text = to_csv(table, title=table.title).encode(errors="backslashreplace")
    return f"data:text/csv;base64,{base64.b64encode(text).decode()}"
