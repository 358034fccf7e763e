import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ssl_lt.core.errors import DataError
from ssl_lt.evaluate.picture_records import FeatureMap, Pictures, read_pictures, write_picture_file
from ssl_lt.evaluate.scores.confusion import from_matrix
from ssl_lt.report.figures.confusion import confusion_difference_figure, confusion_figure
from ssl_lt.report.figures.feature_map import class_map_figure, group_map_figure
from ssl_lt.report.figures.gallery import make_gallery, other_confusions
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.tables.comparison import compare
from ssl_lt.report.tables.neighbours import neighbours_table

NASTY = "<script>alert(1)</script>"


def pixels(svg):
    """(H, W, 4) of the matrix in a drawing."""
    (found,) = re.findall(r"base64,([A-Za-z0-9+/=]+)", svg)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGBA"))


def with_confusion(run, confusion):
    return replace(run.evaluations[0], confusion=from_matrix(np.asarray(confusion).tolist()))


def test_files_come_back_as_they_went(make_run, make_pictures, tmp_path):
    assert read_pictures(tmp_path, num_classes=12) == Pictures()
    made = make_pictures(make_run())
    write_picture_file(made.feature_map, tmp_path)
    assert read_pictures(tmp_path, num_classes=12) == Pictures(made.feature_map)
    write_picture_file(made.neighbours, tmp_path)
    assert read_pictures(tmp_path, num_classes=12) == made
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.json", "neighbours.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 2 is newer than 1"),
        ({"x": [1]}, "differ in length"),
        ({"classes": [12] * 300}, "no class 12 among 12"),
        ({"x": None}, "x: input should be a valid array, not None"),
    ],
)
def test_a_damaged_map_is_named_in_one_line(make_run, make_pictures, tmp_path, change, message):
    write_picture_file(make_pictures(make_run()).feature_map, tmp_path)
    path = tmp_path / "map.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message) as error:
        read_pictures(tmp_path, num_classes=12)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    path.write_text('{"x": [1')
    with pytest.raises(DataError, match=r"map\.json: damaged"):
        read_pictures(tmp_path, num_classes=12)


def test_cells_are_shares_in_order_of_frequency(make_run):
    run = make_run(names=["rare", "middle", "frequent"])
    counts = (5, 50, 500)
    groups = replace(run.data.groups[0], many=(2,), medium=(1,), few=(0,))
    data = replace(run.data, counts_per_class=counts, groups=(groups,))
    # Half of the rare class is taken for the frequent one.
    evaluation = with_confusion(run, [[20, 0, 20], [0, 40, 0], [0, 0, 10]])
    svg = confusion_figure(data, evaluation, title="T").svg
    alpha = pixels(svg)[..., 3].astype(int)
    assert alpha.shape == (3, 3)
    # Frequent first: [[all, 0, 0], [0, all, 0], [half, 0, half]].
    assert alpha[0, 0] == alpha[1, 1] == alpha.max()
    assert alpha[2, 0] == alpha[2, 2]
    assert 0 < alpha[2, 0] < alpha.max()
    assert np.count_nonzero(alpha) == 4
    colours = pixels(svg)[..., :3]
    assert (colours[2, 2] == colours[0, 0]).all()
    assert (colours[2, 0] != colours[0, 0]).any()
    numbers = re.findall(r">(\d+)</text>", svg)
    assert numbers.count("50") == 2
    assert svg.count("rare · 3") == svg.count("frequent · 1") == 1


def test_difference_of_two_matrices_is_blue_where_it_is_better(make_run):
    run = make_run(names=["a", "b", "c"])
    before = with_confusion(run, [[20, 20, 0], [0, 40, 0], [10, 0, 30]])
    # Of a 10 more are right; of b 20 more are taken for c; c stays as it was.
    after = with_confusion(run, [[30, 10, 0], [0, 20, 20], [10, 0, 30]])
    first, second = (
        replace(run, name=n, evaluations=(e,)) for n, e in (("x", before), ("y", after))
    )
    (comparison,) = compare([first, second])
    figure = confusion_difference_figure(comparison)
    cells, (better, worse) = pixels(figure.svg), ((38, 140, 208), (232, 108, 48))
    seen = {tuple(place): tuple(cells[tuple(place)][:3]) for place in np.argwhere(cells[..., 3])}
    assert seen == {(0, 0): better, (0, 1): better, (1, 1): worse, (1, 2): worse}
    assert cells[0, 0, 3] == cells[0, 1, 3] < cells[1, 1, 3] == cells[1, 2, 3]
    numbers = re.findall(r">([+−]\d+)</text>", figure.svg)
    assert numbers == ["+25", "−25", "−50", "+50"]
    assert figure.note.startswith("y minus x, kNN.")
    bare = replace(comparison, before=replace(before, confusion=None))
    assert confusion_difference_figure(bare) is None


def test_many_classes_are_a_pixel_each_and_not_named(make_run):
    run = make_run(names=[f"name {i}" for i in range(100)])
    figure = confusion_figure(run.data, run.evaluations[0], title="T")
    assert pixels(figure.svg).shape == (100, 100, 4)
    assert "name 5" not in figure.svg
    assert [figure.svg.count(f">{g}</text>") for g in ("many", "medium", "few")] == [2, 2, 2]
    assert len(figure.svg) < 20_000


def test_thousands_of_classes_share_cells_and_say_so(make_run):
    run = make_run(names=[f"name {i}" for i in range(601)])
    evaluation = with_confusion(run, 7 * np.eye(601, dtype=int))
    figure = confusion_figure(run.data, evaluation, title="T")
    alpha = pixels(figure.svg)[..., 3]
    assert alpha.shape == (201, 201)
    assert (alpha.diagonal() == alpha.max()).all()
    assert np.count_nonzero(alpha) == 201
    assert "mean of 3 neighbouring" in figure.note


def test_classes_without_test_images_and_without_groups(make_run):
    run = make_run(names=["a", "b", "c"])
    evaluation = with_confusion(run, [[0, 0, 0], [1, 0, 0], [0, 0, 1]])
    figure = confusion_figure(replace(run.data, groups=()), evaluation, title="T")
    assert np.count_nonzero(pixels(figure.svg)[..., 3]) == 2
    assert confusion_figure(run.data, replace(evaluation, confusion=None), title="T") is None


@pytest.mark.parametrize("num_classes", [3, 12, 100])
def test_every_point_is_on_both_maps(make_run, make_pictures, num_classes):
    run = make_run(names=[f"n{i}" for i in range(num_classes)])
    found = make_pictures(run).feature_map
    drawn = r"<use [^>]*(var\(--series-\d\)|#[0-9a-f]{6})"
    by_group = re.findall(drawn, group_map_figure(run.data, found, title="").svg)
    assert len(by_group) == 300
    few = sum(c in run.data.groups[0].few for c in found.classes)
    assert by_group.count("var(--series-2)") == few > 0
    by_class = re.findall(drawn, class_map_figure(run.data, found, title="").svg)
    assert len(by_class) == 300
    assert len(set(by_class)) == len(set(found.classes))


def test_names_stand_in_the_middle_and_not_over_each_other(make_run):
    run = make_run(names=["a", "b", NASTY])
    x, y = (
        (100, 110, 120, 900, 910, 920, 101, 111, 121),
        (200, 210, 220, 800, 810, 820, 201, 211, 221),
    )
    found = FeatureMap(x, y, (0, 0, 0, 1, 1, 1, 2, 2, 2), "note")
    svg = class_map_figure(run.data, found, title="").svg
    assert re.findall(r">([^<]*)</text>", svg) == ["a", "b"]  # c lies over a


def test_names_are_drawn_as_they_are(make_run):
    run = make_run(names=[NASTY, "$x_1$", "b"])
    long = make_run(names=["the same beginning " + end for end in "abc"])
    found = FeatureMap((1, 2, 3, 500, 510, 520), (5,) * 6, (0, 0, 0, 1, 1, 1), "note")
    for figure in (
        class_map_figure(run.data, found, title=""),
        confusion_figure(run.data, run.evaluations[0], title=""),
    ):
        assert "<script>" not in figure.svg
        assert "$x_1$" in figure.svg
    assert class_map_figure(long.data, found, title="").svg.count("the same beginnin…") == 2


def test_neighbours_in_words(make_run, make_pictures):
    run = make_run()
    table = neighbours_table(run.data, make_pictures(run).neighbours)
    assert table.rows[0] == (
        *("class 0", "many", "✓ class 0", "✓ class 0", "✗ class 1", "✗ class 1", "✗ class 2"),
    )
    assert len(table.headings) == 7


@pytest.mark.slow
def test_gallery_of_one_run_of_two_and_of_many(make_run, make_pictures):
    runs = [make_run(f"r{i}") for i in range(6)]
    pictures = [make_pictures(run) for run in runs]
    one = make_gallery(runs[:1], pictures[:1])
    assert [f.title for f in one.confusions] == ["kNN", "linear probe"]
    assert other_confusions(runs[:1], runs[0]) == {}
    two = make_gallery(runs[:2], [pictures[0], Pictures()])
    assert [f.title for f in two.confusions] == ["r0: kNN", "r1: kNN"]
    assert [f.title for f in two.maps] == ["r0: by group", "r0: by class"]
    assert list(other_confusions(runs[:2], runs[1])) == ["linear probe"]
    many = make_gallery(runs, pictures)
    assert len(many.confusions) == len(many.strips) == 4
    assert "first 4" in many.note
    assert list(other_confusions(runs, runs[5])) == ["kNN", "linear probe"]
    assert make_gallery(runs, ()).maps == ()


def test_page_shows_them_and_markdown_says_them(make_run, make_pictures, tmp_path):
    run = make_run(names=[NASTY, *(f"c{i}" for i in range(11))])
    write_page([run], tmp_path / "index.html", pictures=[make_pictures(run)])
    html = (tmp_path / "index.html").read_text()
    assert "<script>" not in html
    assert html.count("<img ") == 4 * 6
    assert html.count('class="thumb same"') == 4 * 2
    assert html.count('class="thumb other"') == 4 * 3
    markdown = (tmp_path / "index.md").read_text()
    assert "### Nearest training images" in markdown
    assert "✗ c1" in markdown
