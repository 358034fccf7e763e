"""Pictures that a CSV names."""

import pickle

import pytest
import torch

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.options import DataOptions, SourceOptions
from ssl_lt.data.sources.registry import open_source
from tests.data.own_pictures import draw, names, opened, reds, refusal


@pytest.fixture
def photos(tmp_path):
    """Ten cats and five dogs beside an empty place for a CSV."""
    for number in range(15):
        draw(tmp_path / "pictures" / f"{number:02}.png", number)
    return tmp_path


LINES = [f"pictures/{n:02}.png,{'cat' if n < 10 else 'dog'}" for n in range(15)]


def write(place, *lines, name="all.csv", header="image,label"):
    (place / name).write_text("\n".join([header, *lines]) + "\n")
    return f"csv:{place / name}"


def test_labels_and_a_held_out_test_set(photos):
    source = opened(write(photos, *LINES))
    assert source.class_names == ("cat", "dog")
    assert source.imbalance_factor is None
    train, test = source.train, source.test
    assert torch.bincount(train.labels).tolist() == [8, 4]
    assert torch.bincount(test.labels).tolist() == [2, 1]
    assert sorted(reds(train) + reds(test)) == list(range(15))
    for table in (train, test):
        assert [value >= 10 for value in reds(table)] == table.labels.bool().tolist()


def test_without_a_label_column_nothing_is_held_out(photos):
    source = opened(write(photos, *(line.split(",")[0] for line in LINES), header="path"))
    assert source.class_names == ()
    assert source.test is None
    assert source.train.labels.tolist() == [-1] * 15
    assert reds(source.train) == list(range(15))


def test_labels_may_be_left_aside(photos):
    source = opened(write(photos, *LINES), label_column="none")
    assert source.class_names == ()
    assert source.train.labels.tolist() == [-1] * 15
    # So may those of a folder.
    source = opened(f"folder:{photos}", label_column="none")
    assert (source.class_names, source.test, len(source.train)) == ((), None, 15)


@pytest.mark.parametrize("header", ["Image Path,Class", "FILENAME,category", "img,target"])
def test_columns_are_found_by_their_names(photos, header):
    assert opened(write(photos, *LINES, header=header)).class_names == ("cat", "dog")


def test_columns_are_named(photos):
    lines = [f"{n},{line},x" for n, line in enumerate(LINES)]
    csv = write(photos, *lines, header="label,scan,finding,notes")
    source = opened(csv, image_column="scan", label_column="finding")
    assert source.class_names == ("cat", "dog")
    said = refusal(csv)
    assert "none of its columns (label, scan, finding, notes) is named image" in said
    assert "--image-column" in said
    said = refusal(csv, image_column="scan", label_column="find")
    assert "has no column 'find' (--label-column), only label, scan, finding, notes" in said


def test_separators_quotes_and_byte_order_mark(photos):
    draw(photos / "a, b;c.png", 99)
    lines = [*LINES[:2], '"a, b;c.png",cat', ""]
    for name, separator in (("all.tsv", "\t"), ("semicolons.csv", ";")):
        text = "\r\n".join(["image,label", *lines]).replace(",", separator)
        text = text.replace(f"a{separator} b", "a, b")
        (photos / name).write_text("\ufeff" + text, encoding="utf-8")
        table = opened(f"csv:{photos / name}", label_column="none").train
        assert reds(table) == [0, 1, 99]


def test_classes_that_are_numbers_are_in_order_by_value(photos):
    lines = [f"pictures/{n:02}.png,{label}" for n, label in enumerate([10, 9, 10, 2])]
    source = opened(write(photos, *lines))
    assert source.class_names == ("2", "9", "10")


def test_paths_are_relative_to_the_file_or_the_root(photos, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("lists")
    lines = [line.removeprefix("pictures/") for line in LINES]
    csv = write(elsewhere, *lines)
    root = photos / "pictures"
    assert names(opened(csv, data_root=root, label_column="none").train)[3] == "03.png"
    said = refusal(csv)
    assert f"line 2: {elsewhere} has no file 00.png (--data-root says" in said
    monkeypatch.chdir(photos)
    absolute = write(elsewhere, f"{root / '07.png'},cat", f"{root}//./08.png,dog")
    table = opened(absolute, data_root=root.relative_to(photos)).train
    assert names(table) == ["07.png", "08.png"]


def test_a_single_file_that_is_missing_is_met_where_it_is_read(photos):
    source = opened(write(photos, *LINES[:5], "pictures/none.png,cat"), label_column="none")
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        source.train.read(5)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "names no image"),
        (["pictures/00.png,cat", "../secret.png,cat"], "line 3: ../secret.png leaves the folder"),
        (["pictures/../../x.png,cat"], "line 2: pictures/../../x.png leaves the folder"),
        (["/etc/passwd,cat"], "line 2: /etc/passwd leaves the folder"),
        (
            ["pictures/00.png,cat", "pictures/01.png,cat", "./pictures//00.png,dog"],
            "line 4: ./pictures//00.png comes twice, first in line 2",
        ),
        ([",cat"], "line 2: has no path"),
        (["pictures/00.png,"], "line 2: no label in column 'label' (--label-column none"),
        (["pictures/00.png,cat,dog"], "line 2: 3 fields, the first line names 2"),
        (["pictures/00.png"], "line 2: 1 fields, the first line names 2"),
    ],
)
def test_lines_that_cannot_be_used(photos, lines, says):
    csv = write(photos, *lines)
    said = refusal(csv)
    assert said.startswith(f"{csv}: ")
    assert says in said


def test_files_that_cannot_be_used(photos):
    assert refusal(f"csv:{photos}/none.csv") == f"csv:{photos}/none.csv: no such file"
    assert "Is a directory" in refusal(f"csv:{photos}")
    (photos / "latin.csv").write_bytes("image\nK\xe4fer.png\n".encode("latin-1"))
    assert "is not UTF-8 text (byte 7)" in refusal(f"csv:{photos}/latin.csv")
    assert refusal("csv") == "--data csv: say which, as csv:FILE"


def test_names_on_the_disk_are_proposed_with_their_prefix(photos):
    write(photos, *LINES)
    assert f"did you mean csv:{photos}/all.csv?" in refusal(photos / "all.csv")
    assert f"did you mean folder:{photos}?" in refusal(photos)
    said = refusal("cvs:all.csv")
    assert "did you mean csv?" in said
    assert "(known: digits, cifar10, cifar100, folder, csv, list, hf, wds)" in said


# --- a test set from elsewhere


def test_a_test_set_of_its_own(photos):
    train = write(photos, *LINES[2:])
    test = write(photos, "pictures/11.png,dog", name="test.csv")
    source = opened(train, test_data=test)
    assert len(source.train) == 13
    assert names(source.test) == ["pictures/11.png"]
    assert source.test.labels.tolist() == [1]


def test_train_and_test_of_different_kinds(photos, tmp_path_factory):
    root = tmp_path_factory.mktemp("tests")
    for part, number in (("test", 1), ("train", 2)):
        draw(root / part / "dog" / f"{number}.png", number)
    source = opened(write(photos, *LINES), test_data=f"folder:{root}")
    assert len(source.train) == 15
    assert (reds(source.test), source.test.labels.tolist()) == ([1], [1])
    # All of a source without a test set; nothing of it is held out.
    source = opened(write(photos, *LINES), test_data=f"folder:{root / 'train'}")
    assert reds(source.test) == [2]


def test_published_data_with_a_test_set_of_ones_own(photos):
    test = write(photos, "pictures/03.png,3", "pictures/04.png,1")
    source = opened("digits", test_data=test)
    assert len(source.train) == 1497
    assert source.test.labels.tolist() == [3, 1]
    assert (source.image_size, source.imbalance_factor) == (32, 10)


def test_classes_that_differ(photos):
    train, test = write(photos, *LINES), write(photos, "pictures/01.png,Cat", name="test.csv")
    want = f"--test-data {test}: class 'Cat' is not in {train}, which has 'cat' that is not here"
    assert refusal(train, test_data=test) == want
    unlabelled = write(photos, "pictures/01.png", name="flat.csv", header="image")
    assert refusal(train, test_data=unlabelled).endswith(f"has no labels, {train} has")
    said = refusal(unlabelled, test_data=train)
    assert said.endswith(f"nothing can be tested, as {unlabelled} has no labels")
    assert refusal(train, test_data="cvs:x").startswith("--test-data cvs:x: unknown")


# --- secrets


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("csv:https://me:PASS@host/a.csv", "csv:https://***@host/a.csv"),
        ("wds:s3://PASS@bucket/x-{0..9}.tar", "wds:s3://***@bucket/x-{0..9}.tar"),
        ("hf:https://h/x?a=1&X-Amz-Signature=PASS", "hf:https://h/x?a=1&***"),
    ],
)
def test_credentials_are_never_printed(name, masked):
    for flag, make in (
        ("--data", lambda: DataOptions(data=name)),
        ("--test-data", lambda: DataOptions(test_data=name)),
        ("--data", lambda: open_source(name, SourceOptions())),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert str(caught.value).startswith(f"{flag} {masked}: has credentials")
        assert "PASS" not in str(caught.value)


def test_a_table_goes_to_workers(photos):
    table = opened(write(photos, *LINES), label_column="none").train
    assert reds(pickle.loads(pickle.dumps(table))) == list(range(15))
