import hashlib
import json
import os

import numpy as np
import pytest

from ssl_lt.core.errors import DataError, DiskError
from ssl_lt.data.splits.split import Recipe, Split, read_index_list, read_split, write_split

ROWS = [7, 2, 9, 4]


@pytest.fixture
def split():
    return Split(
        source="digits",
        recipe=Recipe(kind="exponential", imbalance_factor=10.0, seed=0),
        num_rows=10,
        data_sha256="ab" * 32,
        counts_per_class=(3, 1),
        indices=np.array(ROWS),
    )


@pytest.fixture
def path(tmp_path, split):
    path = tmp_path / "split.json"
    write_split(path, split)
    return path


def rewrite(path, **changes):
    fields = json.loads(path.read_text())
    if "indices" in changes:
        data = np.array(changes["indices"], dtype="<i8").tobytes()
        fields["indices_sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(fields | changes))


def test_what_is_written_is_read(path, split):
    found = read_split(path)
    for name in ("source", "recipe", "num_rows", "data_sha256", "counts_per_class", "sha256"):
        assert getattr(found, name) == getattr(split, name)
    assert found.indices.tolist() == ROWS
    assert found.indices.dtype == np.int64


def test_nothing_is_left_beside_the_file(path):
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


def test_the_digest_is_of_little_endian_64_bit_indices(split):
    packed = b"".join(row.to_bytes(8, "little") for row in ROWS)
    assert split.sha256 == hashlib.sha256(packed).hexdigest()


def test_an_interrupted_write_leaves_the_old_file(path, split, monkeypatch):
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"split\.json: cannot be written: .*No space left"):
        write_split(path, split)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "split format 2, expected 1"),
        ({"indices_sha256": "0" * 64}, "the indices were changed: their SHA-256 is"),
        ({"indices": [7, 2, 10, 4]}, r"row 10 \(place 2\) is outside the 10 rows"),
        ({"indices": [7, 2, -1, 4]}, r"row -1 \(place 2\) is outside the 10 rows"),
        ({"indices": [7, 2, 4, 7]}, r"row 7 \(place 3\) comes twice"),
        ({"indices": [], "counts_per_class": []}, "has no rows"),
        ({"counts_per_class": [3, 2]}, "counts_per_class add up to 5, there are 4 indices"),
        ({"recipe": {"kind": "step"}}, "a field is not what a split holds"),
        ({"num_rows": "10"}, "'10' is not a whole number"),
    ],
)
def test_a_changed_file_is_refused(path, changes, message):
    rewrite(path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_split(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [[1.5], ["1"], [True], 5, [2**70]])
def test_indices_that_are_no_rows_are_refused(path, value):
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"indices": value}))
    with pytest.raises(DataError, match="a field is not what a split holds"):
        read_split(path)


@pytest.mark.parametrize("field", ["source", "recipe", "num_rows", "indices", "counts_per_class"])
def test_a_missing_field_is_named(path, field):
    fields = json.loads(path.read_text())
    del fields[field]
    path.write_text(json.dumps(fields))
    with pytest.raises(DataError, match=f"has no field '{field}'"):
        read_split(path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", "\x00"])
def test_what_is_no_split_is_refused(tmp_path, text):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"split\.json: (cannot be read|split format none)"):
        read_split(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read"):
        read_split(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match=r"nowhere\.txt: cannot be read"):
        read_index_list(tmp_path / "nowhere.txt")


def test_index_lists(tmp_path):
    np.save(tmp_path / "rows.npy", np.array(ROWS, dtype=np.int32))
    (tmp_path / "rows.txt").write_text("7\n2\n\n9\n4\n")
    for name in ("rows.npy", "rows.txt"):
        rows = read_index_list(tmp_path / name)
        assert rows.tolist() == ROWS
        assert rows.dtype == np.int64


def test_bad_index_lists(tmp_path):
    (tmp_path / "rows.txt").write_text("7\ncat\n")
    with pytest.raises(DataError, match="line 2: 'cat' is not a whole number"):
        read_index_list(tmp_path / "rows.txt")
    np.save(tmp_path / "floats.npy", np.array([0.5]))
    with pytest.raises(DataError, match="float64 of shape"):
        read_index_list(tmp_path / "floats.npy")
    np.save(tmp_path / "square.npy", np.zeros((2, 2), dtype=int))
    with pytest.raises(DataError, match=r"shape \(2, 2\)"):
        read_index_list(tmp_path / "square.npy")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as a list of rows"):
        read_index_list(tmp_path / "pickled.npy")
