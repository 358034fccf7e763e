"""The few lines that say what was understood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lt.data.curate.describe import describe_image, glance
from ssl_lt.data.curate.summary import understood
from ssl_lt.data.images.decode import Decoding
from ssl_lt.data.sources.parts import LeftOut
from tests.data.own_pictures import draw, opened


def said_of(source, **options) -> list[str]:
    known = source.train.labels[source.train.labels >= 0]
    counts = torch.bincount(known, minlength=len(source.class_names)).tolist()
    return understood(
        source,
        glance(source.train),
        num_images=len(source.train),
        counts_per_class=counts if source.class_names else (),
        **options,
    )


def fill(root, **classes):
    for name, count in classes.items():
        for number in range(count):
            draw(root / name / f"{number}.png", number)


def deep(root, make, dtype=np.uint16, suffix="png"):
    """Grey images with many bits in two classes."""
    random = np.random.default_rng(0)
    for number in range(8):
        path = root / "ab"[number % 2] / f"{number}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.asarray(make(random)).astype(dtype)).save(path)
    return opened(f"folder:{root}", hold_out=False)


def test_a_folder_in_eight_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos" / "train", ant=9, bee=7, cat=5, dog=4, emu=3, fox=2)
    fill(tmp_path / "photos" / "valid", ant=2)
    for name in ("ant/a.heic", "ant/b.heic", "bee/c.heic", "bee/notes.txt"):
        (tmp_path / "photos" / "train" / name).write_text("x")
    Image.new("L", (30, 20)).save(tmp_path / "photos" / "train" / "ant" / "large.bmp")
    assert said_of(opened("folder:photos")) == [
        "data: folder:photos, 31 images, 6 classes of 10 to 2 images",
        "parts: train 31 (train/), test 2 (valid/), no validation",
        "labels: the names of sub-folders",
        "largest: ant 10, bee 7, cat 5",
        "smallest: dog 4, emu 3, fox 2",
        "left out: 3 .heic (ant 2, bee 1), 1 .txt (bee 1)",
        "images: 4 x 4 to 30 x 20 pixels, RGB, L, 8 bits, 31 looked at",
    ]


def test_lines_fit_whatever_the_names(tmp_path):
    fill(tmp_path / "s", **{f"species of a very long name indeed {n}": 1 + n for n in range(9)})
    source = opened(f"folder:{tmp_path}/s")
    source = replace(
        source,
        left_out=tuple(
            LeftOut(f".suffix{n}", f"a class of a long name {m}", 10**n)
            for n in range(9)
            for m in range(3)
        ),
        notes=("a note that goes on and on " * 9,),
        places={"test": "--test-data csv:/a/very/long/path/of/a/file/that/somebody/made/test.csv"},
    )
    lines = said_of(source)
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)
    heads = [line.split(":")[0] for line in lines if not line.startswith("  ")]
    assert heads == ["data", "parts", "labels", "largest", "smallest", "left out", "images", "note"]
    assert lines[4].startswith("largest: species..ndeed 8 8, species")
    assert lines[6].startswith("left out: 300,000,000 .suffix8 (")
    assert lines[6].endswith(" and 8 more")


def test_without_labels_it_says_what_would_give_them(tmp_path):
    fill(tmp_path, a=3)
    (tmp_path / "t.csv").write_text("image,age\na/0.png,5\na/1.png,6\n")
    lines = said_of(opened(f"csv:{tmp_path}/t.csv"))
    assert "without labels" in " ".join(lines[:2])
    text = " ".join(" ".join(lines).split())
    assert "note: there are no labels: its columns are image, age: say with --label-column" in text


def test_names_that_are_no_text_are_escaped(tmp_path):
    fill(tmp_path, **{"caf\udce9": 1, "tea": 1})
    lines = said_of(opened(f"folder:{tmp_path}", hold_out=False))
    assert "\n".join(lines).encode()
    assert any("caf\\xe9 1" in line for line in lines)


# --- values


def text_of(source) -> str:
    return " ".join(" ".join(said_of(source)).split())


def test_twelve_bits_in_sixteen_are_a_warning_with_the_range(tmp_path):
    source = deep(tmp_path, lambda random: random.integers(0, 4001, (20, 20)))
    said = text_of(source)
    assert "I;16, values 0 to 4000, 8 looked at" in said
    assert "warning: images of 16 bits use 0 to 4000, nearly all pixels " in said
    assert "as --value-range 0 4095" in said
    source = opened(f"folder:{tmp_path}", hold_out=False, value_range=(0.0, 4095.0))
    assert "warning" not in text_of(source)
    source = opened(f"folder:{tmp_path}", hold_out=False, value_range=(0.0, 2047.0))
    assert "values are 0 to 4000, and cut off at --value-range 0 2047" in text_of(source)


def test_a_few_bright_pixels_hide_nothing(tmp_path):
    def marked(random):
        pixels = random.integers(0, 4001, (50, 50))
        pixels[0, :3] = 65535
        return pixels

    assert "as --value-range 0 4095" in text_of(deep(tmp_path, marked))


@pytest.mark.parametrize("high", [1 << 10, 1 << 14, 1 << 15])
def test_any_number_of_unused_bits(tmp_path, high):
    source = deep(tmp_path, lambda random: random.integers(0, high, (50, 50)))
    assert f"as --value-range 0 {high - 1}" in text_of(source)


def test_values_around_an_offset(tmp_path):
    source = deep(tmp_path, lambda random: random.integers(32000, 34000, (20, 20)))
    assert "little contrast is left in 8 bits" in text_of(source)
    assert "as --value-range 32000 33999" in text_of(source)


def test_test_images_that_are_stored_otherwise(tmp_path):
    fill(tmp_path, a=3, b=3)
    for part in ("test", "validation"):
        (tmp_path / part).mkdir()
    tests = deep(tmp_path / "test", lambda random: random.integers(0, 4001, (20, 20)))
    source = opened(f"folder:{tmp_path}/a", hold_out=False)
    said = " ".join(" ".join(said_of(source, held={"test": glance(tests.train)})).split())
    assert "warning: test images of 16 bits use 0 to 4000, nearly all" in said
    assert text_of(tests).count("warning") == 1
    twice = said_of(tests, held={"test": glance(tests.train)})
    assert " ".join(twice).count("warning") == 1  # the same range of the same data set


def test_sixteen_bits_that_are_used_need_no_word(tmp_path):
    source = deep(tmp_path, lambda random: random.integers(0, 65536, (20, 20)))
    assert "warning" not in text_of(source)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_range_are_refused_with_what_they_are(tmp_path, dtype):
    source = deep(tmp_path, lambda random: np.linspace(-8, 9, 16).reshape(4, 4), dtype, "tif")
    assert "values -8 to 9" in text_of(source)
    problem = describe_image(source.train, 0).problem
    assert "pixels (-8 to 9) have no known range: give --value-range LOW HIGH" in problem
    table = source.train.with_decoding(Decoding((-8, 9)))
    assert describe_image(table, 0).problem == ""


def test_images_that_cannot_be_read_are_counted(tmp_path):
    fill(tmp_path, a=3, b=3)
    (tmp_path / "a" / "1.png").write_bytes(b"")
    assert "6 looked at (1 unreadable)" in text_of(opened(f"folder:{tmp_path}", hold_out=False))
