import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.long_tail import exponential_counts, subsample
from ssl_lt.data.options import DataOptions
from ssl_lt.data.sources.digits import open_digits
from ssl_lt.data.sources.source import Source
from ssl_lt.data.splits.split import write_split
from ssl_lt.data.splits.train_split import choose_split
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.table import PixelTable


@pytest.fixture(scope="module")
def digits():
    return open_digits(), open_digits().train


def folder(tmp_path, labels, class_names):
    names = np.array([f"{row}.png".encode() for row in range(len(labels))])
    table = FileTable(tmp_path, names, torch.tensor(labels))
    return Source("folder:x", class_names, table, None), table


def test_digits_are_long_tailed_by_themselves(digits):
    source, table = digits
    split = choose_split(DataOptions(), source)
    want = exponential_counts(10, largest=144, imbalance_factor=10)
    assert split.counts_per_class == tuple(want)
    assert split.recipe.imbalance_factor == 10
    rows = subsample(table.labels.numpy(), want, seed=0)
    np.testing.assert_array_equal(split.indices, rows)
    assert torch.bincount(table.take(split.indices).labels).tolist() == want


def test_the_factor_and_the_profile_can_be_chosen(digits):
    source, table = digits
    split = choose_split(DataOptions(imbalance="step", imbalance_factor=20), source)
    assert split.counts_per_class == (144,) * 5 + (7,) * 5
    everything = choose_split(DataOptions(imbalance="none"), source)
    assert everything.indices.tolist() == list(range(len(table)))


def test_another_seed_is_another_split_of_equal_counts(digits):
    source, _ = digits
    first, second = (choose_split(DataOptions(split_seed=s), source) for s in (0, 1))
    assert first.sha256 != second.sha256
    assert first.counts_per_class == second.counts_per_class


def test_a_folder_is_taken_as_it_is_unless_asked(tmp_path):
    source, _ = folder(tmp_path, [0] * 30 + [1] * 20, ("a", "b"))
    split = choose_split(DataOptions(), source)
    assert split.recipe.kind == "none"
    assert split.counts_per_class == (30, 20)
    thinned = choose_split(DataOptions(imbalance_factor=4), source)
    assert thinned.counts_per_class == (20, 5)
    with pytest.raises(ConfigError, match="--imbalance step: give --imbalance-factor too"):
        choose_split(DataOptions(imbalance="step"), source)


def test_a_folder_without_labels(tmp_path):
    source, _ = folder(tmp_path, [-1] * 5, ())
    split = choose_split(DataOptions(), source)
    assert split.counts_per_class == ()
    assert len(split.indices) == 5
    with pytest.raises(ConfigError, match="--imbalance-factor 10: folder:x has no labels"):
        choose_split(DataOptions(imbalance_factor=10), source)


def test_a_factor_too_large_for_the_data(digits):
    source, _ = digits
    with pytest.raises(ConfigError, match="--imbalance-factor 1000: leaves"):
        choose_split(DataOptions(imbalance_factor=1000), source)


def test_a_split_file_comes_before_the_recipe(digits, tmp_path):
    source, _ = digits
    made = choose_split(DataOptions(imbalance_factor=50, split_seed=3), source)
    write_split(tmp_path / "split.json", made)
    options = DataOptions(split=tmp_path / "split.json", imbalance_factor=10)
    read = choose_split(options, source)
    assert read.sha256 == made.sha256
    assert read.recipe == made.recipe


def test_a_split_of_other_data_is_refused(digits, tmp_path):
    source, table = digits
    path = tmp_path / "split.json"
    write_split(path, choose_split(DataOptions(), source))
    fewer = table.take(np.arange(len(table) - 1))
    turned = table.take(np.arange(len(table))[::-1].copy())
    for other in (fewer, turned):
        with pytest.raises(DataError, match=r"was made from digits with 1497 rows"):
            choose_split(DataOptions(split=path), replace(source, train=other))


def test_counts_that_disagree_name_the_class(digits, tmp_path):
    source, _ = digits
    path = tmp_path / "split.json"
    write_split(path, choose_split(DataOptions(), source))
    fields = json.loads(path.read_text())
    fields["counts_per_class"][3] += 1
    fields["counts_per_class"][4] -= 1
    path.write_text(json.dumps(fields))
    with pytest.raises(DataError, match=r"class 3: counts_per_class says 67, rows are 66"):
        choose_split(DataOptions(split=path), source)


def test_an_index_list_gets_its_counts_from_the_data(digits, tmp_path):
    source, table = digits
    rows = subsample(table.labels.numpy(), [2] * 10, seed=5)
    np.save(tmp_path / "rows.npy", rows)
    split = choose_split(DataOptions(split=tmp_path / "rows.npy"), source)
    assert split.counts_per_class == (2,) * 10
    assert split.recipe.kind == "list"
    write_split(tmp_path / "split.json", split)
    again = choose_split(DataOptions(split=tmp_path / "split.json"), source)
    assert again.sha256 == split.sha256


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1497], r"row 1497 \(place 1\) is outside the 1497 rows"),
        ([5, 6, 5], r"row 5 \(place 2\) comes twice"),
        ([0, 1], "has no row of class"),
    ],
)
def test_bad_index_lists_are_refused(digits, tmp_path, rows, message):
    (tmp_path / "rows.txt").write_text("\n".join(map(str, rows)))
    with pytest.raises(DataError, match=message):
        choose_split(DataOptions(split=tmp_path / "rows.txt"), digits[0])


def test_renamed_files_are_other_data(tmp_path):
    labels = torch.zeros(2, dtype=torch.int64)
    first = FileTable(tmp_path, np.array([b"a.png", b"b.png"]), labels)
    renamed = FileTable(tmp_path, np.array([b"a.png", b"c.png"]), labels)
    moved = FileTable(tmp_path / "elsewhere", np.array([b"a.png", b"b.png"], "S40"), labels)
    assert first.fingerprint() != renamed.fingerprint()
    assert first.fingerprint() == moved.fingerprint()
    pixels = torch.zeros(2, 3, 1, 1, dtype=torch.uint8)
    assert PixelTable(pixels, labels).fingerprint() != PixelTable(pixels, labels + 1).fingerprint()


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"imbalance_factor": 0.5}, "--imbalance-factor 0.5"),
        ({"imbalance_factor": float("nan")}, "--imbalance-factor nan"),
        ({"image_size": 4}, "--image-size: 4 "),
        ({"num_workers": -1}, "--num-workers: -1 "),
        ({"cache_mib": -1}, "--cache-mib: -1 "),
        ({"split_seed": -1}, "--split-seed -1"),
    ],
)
def test_options_that_no_source_could_use(change, flag):
    with pytest.raises(ConfigError, match=flag):
        DataOptions(**change)
