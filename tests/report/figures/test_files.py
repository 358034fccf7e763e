"""Figures as files: whole SVG documents in which no colour is left to a style sheet."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from ssl_lt.report.figures.colours import DARK, LIGHT
from ssl_lt.report.figures.figure import SERIES, Figure, drawing, style, to_svg
from ssl_lt.report.figures.files import to_file, write_figures

SVG = "{http://www.w3.org/2000/svg}"


def drawn(title="A title", legend=(), colours=()):
    with style():
        fig = drawing(4.8, 2.0)
        fig.subplots().plot([0, 1], [0, 1], color=SERIES[0])
        return Figure(title, "a note", to_svg(fig, title), legend, colours)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_the_colours_are_those_of_the_page_and_the_drawing_is_below_the_legend(colours):
    text = to_file(drawn(legend=("a < b", "c & d"), colours=(3, 1)), colours)
    assert "var(" not in text
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert [t.text for t in root.findall(f"{SVG}text")] == ["a < b", "c & d"]
    circles = root.findall(f"{SVG}circle")
    assert [c.get("fill") for c in circles] == [colours["series-3"], colours["series-1"]]
    assert root.find(f"{SVG}rect").get("fill") == colours["paper"]
    assert colours["series-1"] in ElementTree.tostring(root.find(f"{SVG}svg"), encoding="unicode")
    top, height = (float(root.find(f"{SVG}svg").get(key)) for key in ("y", "height"))
    assert top > float(circles[-1].get("cy"))
    _, y, _, whole = map(float, root.get("viewBox").split())
    assert y < 0
    assert y + whole >= top + height


def test_a_page_of_another_name_has_a_folder_of_its_own(tmp_path):
    write_figures([("", drawn()), ("comparison 1", drawn("x/y: z"))], tmp_path / "index.html")
    write_figures([("", drawn())], tmp_path / "one.html")
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.svg"))
    assert found == [
        *("figures/a-title-dark.svg", "figures/a-title.svg"),
        *("figures/comparison-1-x-y-z-dark.svg", "figures/comparison-1-x-y-z.svg"),
        *("one-figures/a-title-dark.svg", "one-figures/a-title.svg"),
    ]


def test_without_a_legend_the_drawing_is_at_the_top():
    root = ElementTree.fromstring(to_file(drawn(), LIGHT))
    assert root.find(f"{SVG}svg").get("y") == "0"
    assert isinstance(drawn().svg, Markup)
