"""What each image is like, what follows for a data set, and splits that share no image."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ssl_lt.core.errors import DataError
from ssl_lt.data.curate.describe import describe_image, describe_table
from ssl_lt.data.curate.inspection import ImageStats, inspection
from ssl_lt.data.splits.balanced_test import balanced_test, number_contents, trainable
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.parquet import open_parquet
from ssl_lt.data.tables.table import PixelTable

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image, suffix="PNG", **others):
    buffer = io.BytesIO()
    image.save(buffer, suffix, **others)
    return buffer.getvalue()


@pytest.fixture
def described(tmp_path):
    """Describes a file with the given bytes."""

    def describe(blob):
        (tmp_path / "a").write_bytes(blob)
        return describe_image(FileTable(tmp_path, np.array([b"a"]), torch.tensor([0])), 0)

    return describe


def pixel_table(*images):
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return PixelTable(pixels, torch.zeros(len(images), dtype=torch.int64))


# --- one image


def test_content_is_what_is_decoded_and_nothing_else(described):
    image = Image.fromarray(NOISE)
    as_pixels = describe_image(pixel_table(NOISE), 0)
    blobs = [encoded(image), encoded(image, "BMP"), encoded(image, "PNG", compress_level=0)]
    assert {described(blob).content for blob in blobs} == {as_pixels.content}
    assert (as_pixels.width, as_pixels.height) == (9, 6)
    changed = NOISE.copy()
    changed[5, 8, 2] ^= 1
    assert describe_image(pixel_table(changed), 0).content != as_pixels.content


def test_the_same_bytes_in_another_shape_are_another_image():
    first, second = (pixel_table(image) for image in (NOISE, NOISE.reshape(9, 6, 3)))
    assert describe_image(first, 0).content != describe_image(second, 0).content


def test_modes_are_those_of_the_file_and_rotation_is_applied(described):
    image = Image.fromarray(NOISE)
    assert described(encoded(image.convert("L"))).mode == "L"
    assert described(encoded(image.convert("CMYK"), "TIFF")).mode == "CMYK"
    turned = Image.Exif()
    turned[0x0112] = 6
    found = described(encoded(image, "JPEG", exif=turned))
    assert (found.width, found.height, found.mode) == (6, 9, "RGB")


def test_grey_and_one_colour():
    grey = np.repeat(NOISE[..., :1], 3, axis=2)
    almost = grey.copy()
    almost[0, 0, 2] ^= 1
    red = np.full((6, 9, 3), (200, 0, 0), dtype=np.uint8)
    seen = list(describe_table(pixel_table(grey, almost, red, 0 * red)))
    assert [image.is_grey for image in seen] == [True, False, False, True]
    assert [image.is_constant for image in seen] == [False, False, True, True]


@pytest.mark.parametrize(
    ("blob", "says"),
    [(b"", "empty file"), (b"nothing", "not an image"), (encoded(Image.fromarray(NOISE))[:80], "")],
)
def test_an_unreadable_image_is_described_and_not_raised(described, blob, says):
    image = described(blob)
    assert image.problem.startswith(says or "cannot be decoded")
    assert (image.content, image.width) == ("", 0)


# --- every table


@pytest.fixture
def tables(tmp_path):
    """The same five images as pixels, as files and in two shards of parquet."""
    images = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    labels = torch.tensor([0, 1, 1, 0, 1])
    blobs = [encoded(Image.fromarray(pixels)) for pixels in images]
    for row, blob in enumerate(blobs):
        (tmp_path / f"{row}.png").write_bytes(blob)
    files = FileTable(tmp_path, np.array([f"{row}.png".encode() for row in range(5)]), labels)
    pixels = PixelTable(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels)
    shards = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, rows in zip(shards, (slice(0, 3), slice(3, 5)), strict=True):
        images = pa.array(
            [{"bytes": blob} for blob in blobs[rows]], pa.struct([("bytes", pa.binary())])
        )
        table = pa.table({"image": images, "label": labels[rows].tolist()})
        pq.write_table(table, path, row_group_size=2)
    packed, _ = open_parquet(shards, image_column="image", label_column="label", side=4)
    assert torch.equal(packed.labels, labels)
    return {"files": files, "pixels": pixels, "packed": packed}


def test_tables_of_the_same_images_are_described_alike(tables):
    seen = {
        name: [image.content for image in describe_table(table)] for name, table in tables.items()
    }
    assert seen["files"] == seen["pixels"] == seen["packed"]
    assert len(set(seen["files"])) == 5


@pytest.mark.parametrize("name", ["files", "pixels", "packed"])
def test_any_rows_of_a_table(tables, name):
    whole = [image.content for image in describe_table(tables[name])]
    for rows in ([], [4], [3, 0, 2, 2]):
        found = [image.content for image in describe_table(tables[name], rows)]
        assert found == [whole[row] for row in rows]


def test_a_file_that_has_gone_is_unreadable(tables, tmp_path):
    (tmp_path / "3.png").unlink()
    problems = [image.problem for image in describe_table(tables["files"])]
    assert problems == ["", "", "", "no such file", ""]


# --- all of them together


def stats(*contents):
    return [
        ImageStats(f"{i}", 4, 4, "RGB", c, problem="" if c else "bad")
        for i, c in enumerate(contents)
    ]


def test_copies_conflicts_and_leaks():
    train, test = stats("a", "b", "a", "", "c", "b", "d"), stats("d", "e", "e", "")
    labels = {"train": np.array([0, 0, 1, 0, 1, 0, 1]), "test": np.array([1, 0, 0, 1])}
    found = inspection("made up", ("x", "y"), {"train": train, "test": test}, labels)

    def rows(copies):
        return [[(image.part, image.row) for image in one.images] for one in copies]

    assert rows(found.conflicts) == [[("train", 0), ("train", 2)]]
    assert rows(found.leaks) == [[("train", 6), ("test", 0)]]
    assert rows(found.duplicates("train")) == [
        [("train", 0), ("train", 2)], [("train", 1), ("train", 5)],
    ]  # fmt: skip
    assert rows(found.duplicates("test")) == [[("test", 1), ("test", 2)]]
    first, second = found.parts
    assert first.counts_per_class == (4, 3)
    assert second.counts_per_class == (2, 2)
    assert [entry.row for entry in first.unreadable] == [3]
    assert first.sizes == (((4, 4), 6),)
    assert found.imbalance_factor == pytest.approx(4 / 3)
    assert [groups.few for groups in found.groups] == [(0, 1), ()]


def test_without_labels_there_are_no_classes_and_no_conflicts():
    found = inspection("made up", (), {"train": stats("a", "a")}, {"train": np.array([-1, -1])})
    assert found.groups == ()
    assert found.imbalance_factor is None
    assert found.conflicts == ()
    assert len(found.duplicates("train")) == 1
    assert found.parts[0].num_unlabelled == 2


# --- splits


def drawn(contents, labels, *, per_class, seed=0):
    (numbers,) = number_contents([stats(*contents)])
    labels, names = np.array(labels), ("x", "y")
    rows = balanced_test(labels, numbers, class_names=names, per_class=per_class, seed=seed)
    kept = trainable(labels, np.isin(numbers, [*numbers[rows], -1]), class_names=names)
    return rows.tolist(), np.flatnonzero(kept >= 0).tolist()


def test_a_test_set_is_balanced_and_shares_no_picture_with_training():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    # Pictures of a class come several times; some stand under both, some cannot be read.
    contents = [f"{c}-{random.integers(0, 60)}" for c in labels]
    contents[:8] = ["both"] * 8
    contents[8:12] = [""] * 4
    seen = set()
    for seed in range(5):
        test, train = drawn(contents, labels, per_class=20, seed=seed)
        assert np.bincount(labels[test]).tolist() == [20, 20]
        pictures = [contents[row] for row in test]
        assert len(set(pictures)) == 40
        assert not {"both", ""} & set(pictures)
        assert not set(pictures) & {contents[row] for row in train}
        assert "" not in {contents[row] for row in train}
        # Nothing else is lost.
        rest = [r for r in range(400) if contents[r] and contents[r] not in set(pictures)]
        assert train == rest
        seen.add(tuple(test))
    assert len(seen) == 5
    assert drawn(contents, labels, per_class=20, seed=0)[0] in map(list, seen)


def test_the_smallest_class_says_how_many():
    (numbers,) = number_contents([stats(*"abcdefga")])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 0])
    rows = balanced_test(labels, numbers, class_names=("x", "y"), per_class=None, seed=0)
    assert np.bincount(labels[rows]).tolist() == [2, 2]


def test_copies_do_not_fill_a_class():
    with pytest.raises(DataError, match=r"class 'y' has 1 images to test on .*, 2 are asked for"):
        drawn("abcdd", [0, 0, 0, 1, 1], per_class=2)
    with pytest.raises(DataError, match=r"class 'y' has 0 images"):
        drawn(["a", "b", "", ""], [0, 0, 1, 1], per_class=1)


def test_a_class_is_not_tested_away():
    with pytest.raises(DataError, match="class 'y': the test set leaves no image of it to train"):
        drawn("abcde", [0, 0, 0, 1, 1], per_class=2)
