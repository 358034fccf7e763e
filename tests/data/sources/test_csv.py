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
    for name, separator in (("all.tsv", "\t"), ("semicolons.csv", ";"), ("bars", "|")):
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
    assert "(known: digits, cifar10, cifar100, folder, csv, list, coco, hf, wds)" in said


# --- tables as they are published


IDS = [f"ISIC_{n:07}" for n in range(12)]
CLASSES = ["MEL"] * 6 + ["NV"] * 4 + ["BCC"] * 2


@pytest.fixture
def lesions(tmp_path):
    for number, name in enumerate(IDS):
        draw(tmp_path / "img" / f"{name}.png", number)
    return tmp_path


def one_hot(*classes):
    return [
        f"{i},{','.join(str(float(c == k)) for k in classes)}"
        for i, c in zip(IDS, CLASSES, strict=True)
    ]


@pytest.mark.parametrize("asked", [None, "MEL,NV,BCC"])
def test_a_one_in_one_of_several_columns(lesions, asked):
    csv = write(lesions, *one_hot("MEL", "NV", "BCC"), header="image,MEL,NV,BCC")
    source = opened(csv, label_column=asked, hold_out=False)
    assert source.class_names == ("BCC", "MEL", "NV")
    assert [source.class_names[c] for c in source.train.labels] == CLASSES
    assert reds(source.train) == list(range(12))
    assert source.labels_from == "a 1 in one of the columns MEL, NV, BCC"


def test_a_column_without_a_one_is_no_class(lesions):
    csv = write(lesions, *one_hot("MEL", "NV", "BCC", "UNK"), header="image,MEL,NV,BCC,UNK")
    source = opened(csv)
    assert source.class_names == ("BCC", "MEL", "NV")
    assert source.notes[0] == "no image has a 1 in UNK: no class is made of that"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("1.0,1.0,0.0", "line 3: has a 1 for MEL, NV: an image has one class here"),
        ("0.0,0.0,0.0", "line 3: no label in any column of --label-column"),
        ("0.5,0.5,0.0", "line 3: '0.5' in column 'MEL' is no 0 or 1 (--label-column)"),
        ("1.0,,0.0", "line 3: '' in column 'NV' is no 0 or 1"),
    ],
)
def test_rows_that_are_no_one_of_several(lesions, fields, says):
    lines = one_hot("MEL", "NV", "BCC")
    lines[1] = f"{IDS[1]},{fields}"
    csv = write(lesions, *lines, header="image,MEL,NV,BCC")
    assert says in refusal(csv, label_column="MEL,NV,BCC")
    source = opened(csv)  # not asked for, such columns may be anything
    assert source.class_names == ()
    assert source.labels_from == (
        "its columns are image, MEL, NV, BCC: say with --label-column which has the labels, or as "
        "A,B,C which have a 1 in one of them"
    )


def test_a_column_of_one_flag_is_no_label(lesions):
    csv = write(lesions, *(f"{i},{n % 2},5" for n, i in enumerate(IDS)), header="image,male,age")
    assert opened(csv).class_names == ()


@pytest.mark.parametrize("label", ["dx", "Diagnosis", "Finding Labels", "labels", "species"])
@pytest.mark.parametrize("image", ["image_id", "Image Index", "images"])
def test_columns_of_published_tables(lesions, image, label):
    lines = [f"L{n},{i},{c}" for n, (i, c) in enumerate(zip(IDS, CLASSES, strict=True))]
    source = opened(write(lesions, *lines, header=f"lesion,{image},{label}"), hold_out=False)
    assert [source.class_names[c] for c in source.train.labels] == CLASSES


def with_parts(values, header="image,label,split", labels=CLASSES):
    lines = [f"{i},{c},{v}" for i, c, v in zip(IDS, labels, values, strict=True)]
    return [*lines], header


PARTS = ["Train", "Val", "TEST", "train"] * 3


@pytest.mark.parametrize(
    "header",
    ["image,label,split", "image,label,Partition", "image,dx,fold", "image,label,data_type"],
)
def test_a_column_of_parts(lesions, header):
    lines, _ = with_parts(PARTS)
    asked = "fold" if "fold" in header else None
    source = opened(write(lesions, *lines, header=header), split_column=asked)
    assert reds(source.train) == [0, 3, 4, 7, 8, 11]
    assert (reds(source.validation), reds(source.test)) == ([1, 5, 9], [2, 6, 10])
    for part, table in source.parts.items():
        assert [source.class_names[c] for c in table.labels] == [CLASSES[r] for r in reds(table)]
        assert source.places[part] == f"column {header.split(',')[2]!r}"


def test_a_column_of_parts_may_be_left_aside(lesions):
    lines, header = with_parts(PARTS)
    source = opened(write(lesions, *lines, header=header), split_column="none", hold_out=False)
    assert len(source.train) == 12
    assert source.test is None


def test_rows_without_a_part_are_left_out_and_counted(lesions):
    lines, header = with_parts(["", *PARTS[1:]])
    source = opened(write(lesions, *lines, header=header))
    (left,) = source.left_out
    assert (left.kind, left.place, left.count) == ("rows", "nothing in column 'split'", 1)
    assert reds(source.train) == [3, 4, 7, 8, 11]


def test_test_rows_without_labels(lesions):
    labels = ["" if part == "TEST" else c for part, c in zip(PARTS, CLASSES, strict=True)]
    lines, header = with_parts(PARTS, labels=labels)
    source = opened(write(lesions, *lines, header=header), hold_out=False)
    assert source.test is None
    assert "column 'split': 3 images are not used, as they have no labels" in source.notes


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        (["trian", *PARTS[1:]], {}, "line 2: 'trian' in column 'split' is no part (train, val"),
        (
            ["a", "b", "c"] * 4,
            {"split_column": "split"},
            "'split' (--split-column) has a, b, c, an",
        ),
        (PARTS, {"split_column": "parts"}, "has no column 'parts' (--split-column), only image, l"),
    ],
)
def test_parts_that_cannot_be_told(lesions, values, options, says):
    lines, header = with_parts(values)
    assert says in refusal(write(lesions, *lines, header=header), **options)


def test_columns_that_only_look_like_parts(lesions):
    for values, notes in ((["0", "1", "2"] * 4, 1), (["test"] * 12, 1), (IDS, 0)):
        lines, header = with_parts(values)
        source = opened(write(lesions, *lines, header=header), hold_out=False)
        assert len(source.train) == 12
        assert sum("and none is train: all rows are" in note for note in source.notes) == notes


def test_a_column_of_parts_whatever_its_name_says_what_is_wrong_in_it(lesions):
    usage = ["Training", "PublicTest", "PrivateTest"] * 4
    lines, header = with_parts(usage, header="image,label,Usage")
    said = refusal(write(lesions, *lines, header=header))
    assert "line 3: 'PublicTest' in column 'Usage' is no part" in said


def test_test_rows_that_are_trained_on_are_a_warning(lesions):
    lines, header = with_parts(["tr", "tr", "test"] * 4)
    (note,) = opened(write(lesions, *lines, header=header), hold_out=False).notes[:1]
    assert note == "warning: column 'split' has test, tr, and none is train: all rows are taken"
    lines, header = with_parts(["1", "1", "0"] * 4, header="image,label,is_train")
    (note,) = opened(write(lesions, *lines, header=header), hold_out=False).notes[:1]
    assert note.startswith("column 'is_train' is not read: --split-column takes words")


@pytest.mark.parametrize("label", ["cat|dog", "['cat', 'dog']", "nan", "cat;dog"])
def test_labels_that_are_several_or_none(photos, label):
    lines = [*LINES[:13], f'pictures/13.png,"{label}"', f'pictures/14.png,"{label}"']
    said = refusal(write(photos, *lines))
    assert f"line 15: label {label!r} " in said
    assert "(2 images have such a label)" in said
    assert opened(write(photos, *lines), label_column="none").class_names == ()


def test_one_image_under_two_classes_in_two_lines(photos):
    said = refusal(write(photos, *LINES, "pictures/03.png,dog"))
    assert "line 17: pictures/03.png comes twice, first in line 5, as 'cat' and as 'dog'" in said


def test_a_column_that_comes_twice(photos):
    lines = [f"{line},x" for line in LINES]
    assert "has 2 columns named 'label'" in refusal(
        write(photos, *lines, header="image,label,label")
    )
    said = refusal(write(photos, *lines, header="image,a,a"), label_column="a")
    assert "has several columns 'a' (--label-column)" in said


@pytest.mark.parametrize(
    "written",
    ["pictures\\{}.png", "Pictures/{}.PNG", "{}", "pictures/{}", ".\\pictures\\{}", "{}.png"],
)
def test_paths_that_are_written_otherwise(photos, written):
    lines = [f"{written.format(f'{n:02}')},{'cat' if n < 10 else 'dog'}" for n in range(15)]
    source = opened(write(photos, *lines), hold_out=False)
    assert reds(source.train) == list(range(15))
    assert names(source.train)[3] == "pictures/03.png"
    assert source.notes[0].startswith("15 paths stand for the file that fits, as ")


def test_a_path_that_fits_two_files(photos):
    draw(photos / "masks" / "03.jpg")
    csv = write(photos, "00,cat", "03,cat", "11,dog")
    said = refusal(csv)
    assert "line 3: 03 fits 2 files, masks/03.jpg, pictures/03.png: write the path in full" in said
    assert len(opened(csv, data_root=photos / "pictures", hold_out=False).train) == 3


def test_other_encodings_and_trailing_separators(photos):
    text = "image,label,\n" + "\n".join(f"{line},," for line in LINES)
    (photos / "wide.csv").write_bytes(text.encode("utf-16"))
    assert len(opened(f"csv:{photos}/wide.csv", hold_out=False).train) == 15


def test_a_table_without_a_header(photos):
    said = refusal(write(photos, *LINES[1:], header=LINES[0]))
    assert "its first line names a file and no columns: put a line such as image,label" in said
    (photos / "empty.csv").write_text("")
    assert refusal(f"csv:{photos}/empty.csv").endswith("empty.csv: is empty")


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
