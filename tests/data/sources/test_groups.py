"""Images that belong together: by a column, a field or a pattern on their paths."""

import datasets
import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.data.curate.summary import understood
from ssl_lt.data.options import SourceOptions
from tests.data.own_pictures import draw, opened, png, refusal

PATIENTS = "aabbccddee"


@pytest.fixture
def photos(tmp_path):
    """Five patients with two pictures each, as a table and as a folder of classes."""
    lines = ["image,label,patient"]
    for number, patient in enumerate(PATIENTS):
        name = f"all/{'cat' if number < 6 else 'dog'}/{patient}-{number}.png"
        draw(tmp_path / name, number)
        lines.append(f"{name},{name.split('/')[1]},{patient}")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def same(table, others=None):
    """Which images are of the same group, as a matrix."""
    others = table if others is None else others
    return (table.group_ids[:, None] == others.group_ids).tolist()


EXPECTED = [[a == b for b in PATIENTS] for a in PATIENTS]


def test_a_column_and_a_pattern_say_the_same(photos):
    table = opened(f"csv:{photos}/all.csv", hold_out=False, group_column="patient")
    assert same(table.train) == EXPECTED
    assert table.grouped_by == "column 'patient'"
    for name in (f"folder:{photos}/all", f"csv:{photos}/all.csv"):
        found = opened(name, hold_out=False, group_pattern=r"([a-e])-\d+\.png$")
        assert same(found.train) == EXPECTED
        assert same(found.train, table.train) == EXPECTED  # whichever way they are told
        assert found.train.fingerprint() == opened(name, hold_out=False).train.fingerprint()
    (photos / "l.txt").write_text("all/cat/a-0.png 0\nall/dog/e-8.png 1\nall/dog/e-9.png 1\n")
    found = opened(f"list:{photos}/l.txt", hold_out=False, group_pattern="/(.)-")
    assert same(found.train) == [[True, False, False], [False, True, True], [False, True, True]]


def test_they_go_along_with_rows_labels_and_pixels(photos):
    source = opened(f"csv:{photos}/all.csv", group_column="patient")
    assert {*source.train.group_ids.tolist()}.isdisjoint(source.test.group_ids.tolist())
    assert len(source.train) + len(source.test) == 10
    found = opened(f"csv:{photos}/all.csv", group_column="patient", label_column="none")
    assert same(found.train) == EXPECTED


def test_an_image_without_a_group_stands_alone(photos):
    text = (photos / "all.csv").read_text().replace(",a\n", ",\n").replace(",b\n", ",NaN\n")
    (photos / "all.csv").write_text(text)
    source = opened(f"csv:{photos}/all.csv", hold_out=False, group_column="patient")
    assert len(source.train.group_ids.unique()) == 4 + 3
    assert "4 images have nothing in column 'patient' and stand alone" in source.notes


def test_a_hub_set(tmp_path):
    rows = {
        "image": [{"bytes": png(value), "path": None} for value in range(4)],
        "label": [0, 0, 1, 1],
        "camera": [3, 4, 3, None],
    }
    features = datasets.Features({
        "image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]),
        "camera": datasets.Value("int64"),
    })  # fmt: skip
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    name = f"hf:{tmp_path}/set"
    source = opened(name, hold_out=False, group_column="camera")
    assert same(source.train)[0] == [True, False, True, False]
    assert len(source.train.group_ids.unique()) == 3
    assert source.train.take(source.train.rows[1:]).group_ids.shape == (3,)
    assert "has no column 'site' (--group-column), only image, label" in refusal(
        name, group_column="site"
    )


def test_what_is_said_at_the_start(photos):
    source = opened(f"csv:{photos}/all.csv", group_column="patient")
    counts = source.train.labels.bincount().tolist()
    lines = understood(source, [], num_images=len(source.train), counts_per_class=counts)
    train, test = (len(t.group_ids.unique()) for t in (source.train, source.test))
    assert f"groups: train {train}, test {test}, of 2 to 2 images, column 'patient'" in lines
    assert not any("groups:" in line for line in understood(
        opened(f"csv:{photos}/all.csv"), [], num_images=8, counts_per_class=[5, 3]
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"group_pattern": "("}, "--group-pattern '(': missing ), unterminated subpattern"),
        ({"group_pattern": r"p\d"}, "--group-pattern 'p\\\\d': has no parentheses around"),
        ({"group_pattern": "(p)", "group_column": "x"}, "--group-pattern: --group-column says"),
        ({"crop_margin": 0.1}, "--crop-margin: has no effect without --crop-boxes"),
        ({"crop_margin": -1.0, "crop_boxes": True}, "--crop-margin: -1.0 is outside [0, 10]"),
    ],
)
def test_flags_that_cannot_be_meant(options, says):
    with pytest.raises(ConfigError) as caught:
        SourceOptions(**options)
    assert str(caught.value).startswith(says)


def test_flags_without_effect_and_paths_without_a_group(photos):
    folder = f"folder:{photos}/all"
    assert refusal(folder, group_column="patient") == (
        f"--group-column: has no effect on {folder}, only on csv:, coco:, hf:"
    )
    assert "--group-pattern: has no effect on digits" in refusal("digits", group_pattern="(a)")
    assert "--crop-boxes: has no effect on" in refusal(folder, crop_boxes=True)
    for pattern in ("/([a-d])-", "/(a|b|c|d)?[a-e]*-"):
        assert refusal(folder, group_pattern=pattern) == (
            f"{folder}: --group-pattern {pattern!r} does not match dog/e-8.png"
        )
    said = refusal(f"csv:{photos}/all.csv", group_column="site")
    assert said.endswith("has no column 'site' (--group-column), only image, label, patient")
