import base64
import json
import re
import time
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.groups import leading_rule
from ssl_lt.report.figures.plots import Series, curve_figure, difference_figure, profile_figure
from ssl_lt.report.pages.page import _figures, write_page
from ssl_lt.report.records.class_order import group_names
from ssl_lt.report.records.curves import Curve
from ssl_lt.report.tables.comparison import compare

NASTY = "<script>alert(1)</script> & $x_1$ | [red] \"'"


class Reader(HTMLParser):
    """Text, tags and attributes; what was opened must be closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "use", "rect", "image"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(path):
    return Reader(path.read_text(encoding="utf-8"))


def test_one_run_in_three_forms(make_run, tmp_path):
    write_page([make_run("my run")], tmp_path / "index.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("figures", "index.html", "index.json", "index.md"),
        *("tables.csv", "tables.tex"),
    ]
    # Confusion matrices stay on the page.
    figures = ("accuracy-by-class-frequency", "learning-rate", "online-knn", "training-loss")
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}{paper}.svg" for name in figures for paper in ("", "-dark")
    )
    page = read(tmp_path / "index.html")
    words = " ".join(page.words)
    for expected in (
        "my run",
        "sdclr",
        "linear probe",
        "class 11",
        "lr: 0.5",
        "1:01",
        "many > 100",
    ):
        assert expected in words
    # Profile, three curves, two confusion matrices.
    assert page.tags.count("svg") == 6
    assert page.tags.count("h1") == 1
    plain = json.loads((tmp_path / "index.json").read_text())
    assert plain["runs"][0]["evaluations"][0]["name"] == "kNN"
    assert "| linear probe |" in (tmp_path / "index.md").read_text()


def test_the_page_leads_with_groups_that_have_classes(make_run, tmp_path):
    run = make_run(largest=5000)  # every class has more than 20 images
    assert run.data.groups[0].few == ()
    write_page([run], tmp_path / "index.html")
    words = " ".join(" ".join(read(tmp_path / "index.html").words).split())
    assert "per-class accuracies. Groups by thirds of the classes." in words
    assert "n/a" not in words[: words.index("per-class accuracies")]
    assert set(group_names(run.data).values()) == {"many", "medium", "few"}
    assert leading_rule(run.data.groups) == "by thirds of the classes"


def test_needs_nothing_from_outside(make_run, make_pictures, tmp_path):
    runs = [make_run("a"), make_run("b", boost=0.2)]
    write_page(runs, tmp_path / "index.html", pictures=[make_pictures(run) for run in runs])
    text = (tmp_path / "index.html").read_text()
    page = Reader(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert {"img", "image"} <= set(page.tags)
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert references
    assert all(re.match(r"#|data:image/png;base64,[A-Za-z0-9+/=]+$", v) for v in references)
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert re.findall(r"(?:https?:)?//[a-z]|@import|url\((?!#)", text) == []
    assert "prefers-color-scheme: dark" in text


def test_every_reference_inside_a_drawing_is_there(make_run, tmp_path):
    write_page([make_run()], tmp_path / "index.html")
    page = read(tmp_path / "index.html")
    ids = {value for name, value in page.attributes if name == "id"}
    links = (value for name, value in page.attributes if name == "xlink:href")
    used = {value[1:] for value in links if value.startswith("#")}
    used |= {value[5:-1] for name, value in page.attributes if name == "clip-path"}
    assert used
    assert used <= ids


@pytest.mark.slow
def test_names_of_users_are_text(make_run, tmp_path):
    names = [NASTY, *(f"c{i}" for i in range(9))]
    make_run = partial(make_run, evaluations=["kNN"])
    a = replace(make_run(NASTY, names=names), method=NASTY, command=NASTY)
    a = replace(a, configuration={NASTY: NASTY})
    b = make_run("b", names=names, boost=0.2)
    for runs in ([a], [a, b], [b, a]):
        write_page(runs, tmp_path / "index.html")
        page = read(tmp_path / "index.html")
        assert "script" not in page.tags
        assert any(NASTY in word for word in page.words)
        markdown = (tmp_path / "index.md").read_text()
        tables = [line for line in markdown.splitlines() if not line.startswith("    ")]
        assert "<script>" not in "\n".join(tables)


def test_a_run_has_one_colour_on_the_whole_page(make_run):
    runs = [make_run(name, evaluations=kinds) for name, kinds in (
        ("a", ["kNN"]), ("b", ["classifier"]), ("c", ["kNN"]))]  # fmt: skip
    runs[0] = replace(runs[0], curves={"loss": runs[0].curves["loss"]})
    figures = {figure.title: figure for figure in _figures(runs)}
    seen = {title: dict(zip(f.legend, f.colours, strict=True)) for title, f in figures.items()}
    assert seen == {
        "Accuracy by class frequency": {"a": 1, "c": 3},
        "Training loss": {"a": 1, "b": 2, "c": 3},
        "Online kNN": {"b": 2, "c": 3},
        "Learning rate": {"b": 2, "c": 3},
    }
    for figure in figures.values():
        drawn = {int(n) for n in re.findall(r"var\(--series-(\d)\)", figure.svg)}
        assert drawn == set(figure.colours)


@pytest.mark.slow
def test_comparison_says_who_gained_and_who_lost(make_run, tmp_path):
    write_page([make_run("a"), make_run("b", boost=0.3), make_run("c")], tmp_path / "index.html")
    words = " ".join(read(tmp_path / "index.html").words)
    for expected in (
        "3 runs compared",
        "b against a",
        "c against a",
        "Gained",
        "Lost",
        "by chance",
    ):
        assert expected in words
    assert "b against a" in (tmp_path / "index.md").read_text()


@pytest.mark.slow
def test_runs_that_cannot_be_compared_are_called_so(make_run, tmp_path):
    make_run = partial(make_run, evaluations=["kNN"])
    a, b = make_run("a"), make_run("b", names=["x", "y", "z"])
    write_page([a, b], tmp_path / "index.html")
    assert "different classes" in (tmp_path / "index.html").read_text()
    other_split = replace(a, name="c", data=replace(a.data, split_sha256="1" * 64))
    write_page([a, other_split], tmp_path / "index.html")
    assert "different splits" in (tmp_path / "index.html").read_text()
    write_page([a, make_run("d")], tmp_path / "index.html")
    assert 'class="warning"' not in (tmp_path / "index.html").read_text()


def test_a_run_with_next_to_nothing(make_run, tmp_path):
    run = make_run()
    bare = replace(run, evaluations=(), curves={}, timing=None, configuration={}, plugins=())
    bare = replace(bare, data=replace(bare.data, groups=()))
    write_page([bare], tmp_path / "index.html")
    assert "Nothing has been evaluated yet" in (tmp_path / "index.html").read_text()
    no_groups = replace(run, data=replace(run.data, groups=()))
    write_page([no_groups], tmp_path / "index.html")
    assert read(tmp_path / "index.html").tags.count("svg") == 6
    with pytest.raises(ConfigError, match="no run"):
        write_page([], tmp_path / "index.html")


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(make_run, tmp_path):
    write_page([make_run()], tmp_path / "a.html")
    write_page([make_run()], tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_figures_leave_every_colour_to_the_page(make_run):
    a, b = make_run("a"), make_run("b", boost=0.3)
    series = [Series(str(i), a.evaluations[0].accuracy.per_class) for i in range(6)]
    (comparison,) = compare([a, b])
    curve = ("a", Curve((1, 2), (3.0, 2.0)))
    for figure in (
        profile_figure(a.data, series, subject=""),
        difference_figure(comparison),
        curve_figure("T", "n", [curve], label="loss", scale=1.0),
    ):
        assert re.findall(r"#[0-9a-f]{6}\b", figure.svg) == []
        assert "var(--ink)" in figure.svg
        assert "var(--series-1)" in figure.svg
        assert figure.svg.startswith('<svg role="img" aria-label=')


def test_profile_draws_one_point_a_tested_class(make_run):
    run = make_run()
    per_class = (None, *run.evaluations[0].accuracy.per_class[1:])
    svg = profile_figure(run.data, [Series("s", per_class)], subject="").svg
    assert len(re.findall(r"<use [^>]*--series-1", svg)) == 11


def test_a_difference_of_nothing_is_drawn(make_run):
    a = make_run("a")
    (comparison,) = compare([a, replace(a, name="again")])
    assert "var(--series-1)" not in difference_figure(comparison).svg


@pytest.mark.slow
def test_ten_runs_of_a_hundred_classes_stay_small(make_run, make_pictures, tmp_path):
    names = [f"class number {i}" for i in range(100)]
    kinds = ("kNN", "linear probe", "linear probe, long-tailed")
    runs = [make_run(f"run {i}", names=names, evaluations=kinds) for i in range(10)]
    pictures = [make_pictures(run, points=2000) for run in runs]
    started = time.process_time()
    write_page(runs, tmp_path / "index.html", pictures=pictures)
    # Of this process alone: other work on the machine does not count.
    assert time.process_time() - started < 20
    for name in ("index.html", "index.md", "index.json"):
        assert (tmp_path / name).stat().st_size < 4_000_000


@pytest.mark.slow
def test_thousands_of_classes_make_a_page_of_a_few_megabytes(make_run, tmp_path):
    names = [f"species {i}" for i in range(3000)]
    runs = [make_run(name, names=names, boost=0.3) for name in ("a", "b")]
    started = time.process_time()
    write_page(runs[:1], tmp_path / "one.html")
    write_page(runs, tmp_path / "two.html")
    assert time.process_time() - started < 60
    for name in ("one.html", "two.html", "one.md", "one-tables.tex"):
        assert (tmp_path / name).stat().st_size < 4_000_000
    assert (tmp_path / "one.json").stat().st_size < 10_000_000
    text = (tmp_path / "one.html").read_text()
    words = " ".join(Reader(text).words)
    # The ends of the table are shown, and a link holds all of it.
    assert "species 99 " in words
    assert "species 2900" in words
    assert "species 100 " not in words
    assert "The first and the last 100 of 3,000 rows" in words
    assert "means of 6 neighbouring classes" in words
    (link,) = re.findall(r'download="every-class.csv" href="data:text/csv;base64,([^"]+)"', text)
    rows = base64.b64decode(link).decode().splitlines()
    assert len(rows) == 3001
    assert (tmp_path / "one-tables.csv").read_text().count("Every class,") == 3000


def test_what_was_left_out_is_said(make_run, tmp_path):
    run = replace(make_run(), left_out={"linear probe": "no class has two training images"})
    write_page([run], tmp_path / "index.html")
    said = "Without linear probe: no class has two training images."
    assert said in (tmp_path / "index.html").read_text()
    assert said in (tmp_path / "index.md").read_text()
