"""Whole groups of images are held out, and every class as near to its share as they allow."""

from contextlib import suppress

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.curate.inspection import ImageStats
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions, SourceOptions
from ssl_lt.data.sources.registry import open_complete, open_source
from ssl_lt.data.splits.hold_out import held_out_rows
from ssl_lt.data.splits.make import SplitOptions, make_splits, resolve
from ssl_lt.data.splits.split import write_split
from ssl_lt.data.splits.test_split import choose_test
from ssl_lt.data.validation import with_validation
from tests.data.own_pictures import draw

NUMBER = 60


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    place = tmp_path_factory.mktemp("photos")
    for number in range(NUMBER):
        draw(place / f"{number}.png", number)
    return place


def random_table(seed):
    """Labels of a long tail and patients, of whom some have several diseases."""
    random = np.random.default_rng(seed)
    labels = np.minimum(random.geometric(0.4, NUMBER) - 1, 4)
    patients = random.integers(0, random.integers(8, 40), NUMBER)
    if seed % 2:  # a patient has one disease
        patients = patients + 100 * labels
    return labels, patients


def written(place, labels, patients):
    lines = [f"{n}.png,c{c},p{p}" for n, (c, p) in enumerate(zip(labels, patients, strict=True))]
    (place / "all.csv").write_text("image,label,patient\n" + "\n".join(lines) + "\n")
    return f"csv:{place / 'all.csv'}"


def groups(table):
    return set(table.group_ids.tolist())


def test_no_patient_is_in_two_parts_of_a_hundred_random_tables(photos):
    tested, drawn, validated = 0, 0, 0
    for seed in range(100):
        name = written(photos, *random_table(seed))
        data = open_data(DataOptions(data=name, group_column="patient", cache_mib=0))
        source, parts = data.source, [data.source.train]
        if source.test is not None:
            parts.append(source.test)
            tested += 1
            with suppress(ConfigError):  # no class has two groups
                held = with_validation(data, 0.2)
                own = source.train.take(held.held_out)
                parts[0] = held.train
                parts.append(own)
                validated += 1
        for number, part in enumerate(parts):
            assert all(not groups(part) & groups(other) for other in parts[:number])
        assert sum(map(len, parts)) == NUMBER
        counts = np.bincount(parts[0].labels, minlength=data.num_classes)
        assert counts.min() > 0  # every class is trained
        drawn += split_parts_no_patient(name, seed)
    assert min(tested, drawn, validated) > 60


def split_parts_no_patient(name, seed):
    """`data split` of the table, where it has enough of each class."""
    options = SplitOptions(data=name, group_column="patient", test_per_class=1, seed=seed)
    source = open_complete(name, options)
    stats = {"train": [ImageStats(str(n), content=str(n % 55)) for n in range(NUMBER)]}
    try:
        train, test = make_splits(resolve(options, source), source, stats)
    except DataError:  # a class has too few
        return False
    rows = source.train.group_ids
    assert test.counts_per_class == (1,) * len(source.class_names)
    assert not {*rows[train.indices].tolist()} & {*rows[test.indices].tolist()}
    assert not np.intersect1d(train.indices % 55, test.indices % 55).size
    everything = np.concatenate([train.indices, test.withheld.rows])
    assert sorted(everything) == list(range(NUMBER))
    return True


def test_groups_of_one_image_are_as_none():
    for seed in range(20):
        labels, _ = (torch.from_numpy(part) for part in random_table(seed))
        index = torch.from_numpy(np.random.default_rng(seed).permutation(1000)[:NUMBER])
        for share in (0.1, 0.2, 0.5):
            plain = held_out_rows(labels, index, share=share, seed=seed)
            alone = held_out_rows(labels, index, share=share, seed=seed, group_ids=index * 7)
            assert torch.equal(plain, alone)


def test_the_order_of_the_rows_does_not_matter():
    labels, patients = (torch.from_numpy(part) for part in random_table(0))
    index, order = torch.arange(NUMBER), torch.randperm(NUMBER, generator=torch.Generator())
    held = held_out_rows(labels, index, share=0.2, seed=1, group_ids=patients)
    again = held_out_rows(labels[order], index[order], share=0.2, seed=1, group_ids=patients[order])
    assert torch.equal(held[order], again)
    assert not torch.equal(
        held, held_out_rows(labels, index, share=0.2, seed=2, group_ids=patients)
    )


def test_every_class_comes_near_its_share():
    random = np.random.default_rng(0)
    patients = torch.from_numpy(random.integers(0, 300, 2000))
    labels = torch.from_numpy(np.minimum(random.geometric(0.5, 2000) - 1, 4))
    held = held_out_rows(labels, torch.arange(2000), share=0.2, seed=0, group_ids=patients)
    share = labels[held].bincount() / labels.bincount()
    assert share.sub(0.2).abs().max() < 0.04
    few = labels == 4  # a class in few groups still has some images held out
    assert 0 < int(held[few].sum()) < int(few.sum())


def test_a_class_of_one_group_is_trained_and_named(photos):
    labels, patients = np.arange(NUMBER) % 3, np.arange(NUMBER) % 20
    labels[patients == 7] = 3
    name = written(photos, labels, patients)
    source = open_source(name, SourceOptions(group_column="patient"))
    assert 3 not in source.test.labels
    assert source.notes == (
        "warning: no image of c3 is held out for test, as images that belong together (column "
        "'patient') stay in one part",
    )
    data = open_data(DataOptions(data=name, group_column="patient"))
    notes = with_validation(data, 0.2).source.notes
    assert notes[-1].startswith("warning: no image of c3 is held out for validation")


def test_what_a_long_tail_leaves_out_of_a_validation_group_is_not_learned_from(photos):
    name = written(photos, np.arange(NUMBER) % 2, np.arange(NUMBER) % 15)
    words = {"data": name, "group_column": "patient", "imbalance_factor": 8.0}
    data = with_validation(open_data(DataOptions(**words)), 0.3)
    held = data.source.train.take(data.held_out)
    assert len(data.split.indices) + len(held) < len(data.source.train)
    assert not groups(held) & (groups(data.train) | groups(data.readable))


def test_one_group_alone_is_not_parted(photos):
    name = written(photos, np.arange(NUMBER) % 3, np.zeros(NUMBER, dtype=int))
    source = open_source(name, SourceOptions(group_column="patient"))
    assert source.test is None
    assert "no image of c0, c1, c2 is held out for test" in source.notes[-1]
    data = open_data(DataOptions(data=name, group_column="patient"))
    with pytest.raises(ConfigError, match="--val-fraction: no class has two groups"):
        with_validation(data, 0.5)


def test_who_asks_for_too_much_is_told_the_class(photos):
    name = written(photos, np.arange(NUMBER) % 2, np.arange(NUMBER) % 4)
    options = SplitOptions(data=name, group_column="patient", test_per_class=20)
    source = open_complete(name, options)
    stats = {"train": [ImageStats(str(n), content=str(n)) for n in range(NUMBER)]}
    with pytest.raises(DataError, match=r"has 15 images .* leave others to train on\), 20 are"):
        make_splits(resolve(options, source), source, stats)


def test_a_test_set_bars_its_patients_from_training(photos, tmp_path):
    lines = [f"{n}.png,c{n % 2},p{n % 15},{'test' if n < 20 else 'train'}" for n in range(NUMBER)]
    (photos / "parts.csv").write_text("image,label,patient,split\n" + "\n".join(lines) + "\n")
    name = f"csv:{photos / 'parts.csv'}"
    options = SplitOptions(data=name, group_column="patient", test_per_class=3)
    source = open_complete(name, options)
    stats = {
        part: [ImageStats("", content=f"{part}{n}") for n in range(len(table))]
        for part, table in source.parts.items()
    }
    train, test = make_splits(resolve(options, source), source, stats)
    trained, tested = source.train.take(train.indices), source.test.take(test.indices)
    assert len(tested) == 6
    assert groups(trained)
    assert not groups(trained) & groups(tested)
    write_split(tmp_path / "test.json", test)
    write_split(tmp_path / "train.json", train)
    assert len(choose_test(tmp_path / "test.json", source, train, ()).table) == 6
    files = {"split": tmp_path / "train.json", "test_split": tmp_path / "test.json"}
    assert open_data(DataOptions(data=name, group_column="patient", **files)).source.notes == ()
    (note,) = open_data(DataOptions(data=name, group_column="patient")).source.notes
    assert note == (
        "warning: 15 groups are in both training and test images (column 'patient'), such as that "
        "of 0.png: what is measured there is too high"
    )


def test_groups_that_are_given_otherwise_are_other_data(photos):
    labels, patients = random_table(0)
    name = written(photos, labels, patients)
    options = DataOptions(data=name, test_data=name, group_column="patient")
    first, plain = open_data(options), open_data(DataOptions(data=name, test_data=name))
    written(photos, labels, patients[::-1])
    other = open_data(options)
    assert len({data.sha256 for data in (first, plain, other)}) == 3
    assert first.train_sha256 == other.train_sha256 == plain.train_sha256
