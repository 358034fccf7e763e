"""A real browser opens the pages: nothing fails, nothing is fetched, everything has a size."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ssl_lt.report.pages.page import write_page
from ssl_lt.report.pages.tail import Sheet, write_tail_page
from ssl_lt.report.pages.templates import Tile
from ssl_lt.report.tables.table import PERCENT, Table, number_columns, text_columns
from tests.report.browser import look

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LONG_NAME = "a-run-with-a-name-that-is-rather-long-" * 3


@pytest.fixture(scope="module")
def pages(tmp_path_factory, make_run_once, make_pictures_once):
    """Pages of one run, of two, and one that does what ours must not; name -> file."""
    folder = tmp_path_factory.mktemp("pages")
    many = [f"class_with_a_long_name {i}" for i in range(60)]
    one = make_run_once(LONG_NAME, evaluations=("kNN", "linear probe", "classifier"))
    two = [make_run_once(LONG_NAME, names=many), make_run_once("b", names=many, boost=0.3)]
    write_page([one], folder / "one.html", pictures=[make_pictures_once(one)])
    write_page(two, folder / "two.html", pictures=[make_pictures_once(run) for run in two])
    (folder / "bad.html").write_text(
        '<!doctype html><img src="https://example.invalid/a.png"><p style="width:700px">wide</p>'
        "<script>missing()</script>"
    )
    return {name: folder / f"{name}.html" for name in ("one", "two", "bad")}


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_page_opens_whole_and_quiet(pages, name, width, scheme):
    seen = look(pages[name], width=width, scheme=scheme)
    assert seen.console == []
    assert seen.fetched == []
    assert re.findall(r"https?://", pages[name].read_text(encoding="utf-8")) == []
    assert seen.width <= width
    assert seen.spill <= width
    for kind, fewest in (("tables", 4), ("drawings", 6), ("inner", 2), ("images", 12)):
        found = getattr(seen, kind)
        assert len(found) >= fewest, kind
        assert all(min(sizes) > 8 for sizes in found), kind


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_tail_page_opens_whole_and_quiet(tmp_path, width, scheme):
    grey = np.full((8, 8, 3), 128, dtype=np.uint8)
    tiles = tuple(
        Tile(grey, f"sample {i}", (f"{i:,} · 0.1234", f"class_with_a_long_name {i} (5)"))
        for i in range(40)
    )
    columns = (*text_columns("Score", "Groups"), *number_columns(PERCENT, "AUC", "All"))
    rows = (("memorisation", "by count (many > 100, medium 20-100, few < 20)", 0.512, 0.1),)
    table = Table("How well each score finds rare classes", "Made up.", columns, rows)
    page = tmp_path / "tail.html"
    write_tail_page(
        page,
        title=LONG_NAME,
        lead="40 images",
        sheets=[Sheet("Looks rarest", "The first.", tiles[:20]), Sheet("Last", "", tiles[20:])],
        tables=(table,),
    )
    seen = look(page, width=width, scheme=scheme)
    assert seen.console == []
    assert seen.fetched == []
    assert seen.width <= width
    assert seen.spill <= width
    assert len(seen.images) == 40
    assert all(min(sizes) > 0 for sizes in seen.images)
    assert len(seen.tables) == 1


def test_dark_paper_is_dark(pages):
    light, dark = (look(pages["one"], width=390, scheme=s) for s in ("light", "dark"))

    def brightness(colour):
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness(light.paper) > 700 > 100 > brightness(light.ink) - 50
    assert brightness(dark.paper) < 100 < 600 < brightness(dark.ink)


def test_what_a_page_must_not_do_is_seen(pages):
    seen = look(pages["bad"], width=390)
    assert any("missing is not defined" in line for line in seen.console)
    assert any("example.invalid" in line for line in (*seen.fetched, *seen.console))
    assert seen.width > 390
    assert seen.images[0][0] == 0
