"""`ssl-lt data split`, and runs that train and test on what it wrote."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_lt.data.curate.describe import describe_table
from ssl_lt.data.long_tail import exponential_counts, step_counts
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.digits import open_digits
from ssl_lt.data.sources.registry import open_complete
from ssl_lt.data.splits.split import read_split
from ssl_lt.data.splits.test_split import choose_test
from tests.toolbox import TINY, refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

CONFIG, DATA = 2, 3
SMALLEST = 144  # training images of the smallest class of digits


def split(*words, output="s"):
    succeed("data", "split", *words, "--output", output)
    return read_split(Path(output) / "train.json"), read_split(Path(output) / "test.json")


def test_the_published_test_set_is_balanced_and_training_thinned(empty):
    train, test = split("digits", "--imbalance-factor", "20", "--seed", "4")
    assert test.counts_per_class == (30,) * 10
    assert train.counts_per_class == tuple(
        exponential_counts(10, largest=SMALLEST, imbalance_factor=20)
    )
    assert (test.num_rows, train.num_rows) == (300, 1497)
    again = split("digits", "--imbalance-factor", "20", "--seed", "4", output="again")
    other = split("digits", "--imbalance-factor", "20", "--seed", "5", output="other")
    for name in ("train", "test"):
        assert Path(f"s/{name}.json").read_bytes() == Path(f"again/{name}.json").read_bytes()
    assert train.sha256 == again[0].sha256 != other[0].sha256


def test_test_images_can_come_from_the_training_set(empty):
    train, test = split(
        *"digits --test-from train --test-per-class 12 --imbalance step".split(),
        *"--imbalance-factor 4".split(),
    )
    assert test.counts_per_class == (12,) * 10
    assert train.counts_per_class == tuple(
        step_counts(10, largest=SMALLEST - 12, imbalance_factor=4)
    )
    assert train.num_rows == test.num_rows == 1497
    assert not np.intersect1d(train.indices, test.indices).size


@pytest.fixture
def photos(empty):
    """Own pictures: each class has every third picture twice, and one stands under two."""
    for c, (name, count) in enumerate((("lynx", 24), ("owl", 12), ("wolf", 9))):
        folder = empty / "photos" / name
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng([c, i - i % 3 // 2]).integers(0, 256, (8, 8, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02}.png")
    shutil.copy(empty / "photos/lynx/00.png", empty / "photos/wolf/lynx.png")
    (empty / "photos/owl/00.png").write_bytes(b"")
    return empty


def test_own_pictures_are_split_by_content_and_used_as_they_are(photos):
    train, test = split("folder:photos", "--test-per-class", "3")
    table = open_complete("folder:photos", SourceOptions()).train
    content = [image.content for image in describe_table(table)]
    assert test.counts_per_class == (3, 3, 3)
    withheld = set(test.withheld.rows.tolist())
    assert withheld == {*range(len(content))} - {*train.indices.tolist()}
    assert not {content[i] for i in train.indices} & {content[i] for i in test.indices}
    assert "" not in {content[i] for i in (*train.indices, *test.indices)}
    assert len({content[i] for i in test.indices}) == 9
    # Taken as it is: nothing is lost but copies of what is tested on, and what cannot be read.
    tested = {content[i] for i in test.indices}
    assert train.indices.tolist() == [i for i, c in enumerate(content) if c and c not in tested]


def test_a_run_trains_and_tests_on_the_files_and_keeps_them(photos):
    split("folder:photos", "--test-per-class", "3")
    words = [word for word in TINY if word != "64"]
    words.insert(words.index("--batch-size") + 1, "8")
    said = succeed(
        "finetune", *words, *"--init-from scratch --image-size 8 --data folder:photos".split(),
        *"--split s/train.json --test-split s/test.json --run-dir run".split(),
    )  # fmt: skip
    assert "finished" in said.out
    results = json.loads(Path("run/results.json").read_text())
    assert results["evaluations"][0]["accuracy"]["num_test_per_class"] == [3, 3, 3]
    assert Path("run/split.json").read_bytes() == Path("s/train.json").read_bytes()
    assert Path("run/test_split.json").read_bytes() == Path("s/test.json").read_bytes()
    shutil.rmtree("s")
    assert "on 9 test images" in succeed("evaluate", "--run", "run", "--map-images", "0").out
    # Where both are lost, nothing else is tested on instead.
    Path("run/test_split.json").unlink()
    refuses("evaluate", photos, "--run run", DATA, "s/test.json: cannot be read as a split")


def test_the_same_rows_on_both_sides_are_refused(photos):
    split("folder:photos", "--test-per-class", "2", "--seed", "1")
    split("folder:photos", "--test-per-class", "3", "--seed", "2", output="t")
    words = "--init-from scratch --data folder:photos --test-split s/test.json --run-dir run"
    says = "are trained on too, the first is row"
    refuses("finetune", photos, words, DATA, says)
    refuses("finetune", photos, f"{words} --split t/train.json", DATA, says)


def test_a_file_of_other_data_is_refused(photos):
    split("folder:photos", "--test-per-class", "2")
    succeed("data", "split", "digits", "--output", "d")
    words = "--init-from scratch --data digits --test-split s/test.json --run-dir run"
    says = "s/test.json: was made from folder:photos with 46 rows; neither"
    refuses("finetune", photos, words, DATA, says)
    words = "--init-from scratch --data digits --test-split d/train.json --run-dir run"
    refuses("finetune", photos, words, DATA, "d/train.json: is no test split")
    source = open_digits()
    trained = read_split(Path("d/train.json"))
    tested = choose_test(Path("d/test.json"), source, trained, ())
    assert len(tested.table) == 300
    assert tested.withheld.size == 0


refused = partial(refuses, "data")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("split digitz", CONFIG, "--data digitz: unknown"),
        ("split digits --output taken", CONFIG, "--output: taken exists and is never overwritten"),
        ("split folder:flat --test-per-class 1", CONFIG, "folder:flat has no labels, and data spl"),
        ("split folder:photos", CONFIG, "--test-per-class: say how many training images"),
        ("split digits --test-per-class 0", CONFIG, "--test-per-class: 0 is below 1"),
        ("split digits --test-per-class 31", DATA, "digits: class '0' has 30 images to test on"),
        ("split folder:photos --test-from test", CONFIG, "--test-from test: folder:photos has no"),
        ("split folder:photos --test-per-class 7", DATA, "class 'wolf' has 6 images to test on"),
        (
            "split folder:photos --test-per-class 2 --imbalance step",
            CONFIG,
            "--imbalance step: give --i",
        ),
        ("split digits --imbalance-factor 500", CONFIG, "--imbalance-factor 500: leaves 2 of 10"),
        (
            "split digits --imbalance-factor 0.5",
            CONFIG,
            "--imbalance-factor 0.5: must be 1 or more",
        ),
        ("split digits --seed -1", CONFIG, "--seed -1: must be in 0"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(photos, words, code, says):
    (photos / "taken").mkdir()
    shutil.copytree(photos / "photos" / "lynx", photos / "flat")
    refused(photos, words, code, says)
