"""Folders as people unpack, link and collect them."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.own_pictures import draw, names, opened, refusal


def fill(root, **classes):
    """Class folders of so many images each."""
    for name, count in classes.items():
        for number in range(count):
            draw(root / name / f"{number}.png", number)


def counts(table, num_classes=2):
    return torch.bincount(table.labels, minlength=num_classes).tolist()


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training", "Training"])
@pytest.mark.parametrize("other", ["valid", "Test", "dev", "validation", "EVAL", "testing"])
def test_parts_under_any_usual_name(tmp_path, train, other):
    fill(tmp_path / train, cat=3, dog=2)
    fill(tmp_path / other, cat=1, dog=1)
    source = opened(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    assert (counts(source.train), counts(source.test)) == ([3, 2], [1, 1])
    assert source.places == {"train": f"{train}/", "test": f"{other}/"}


def test_three_parts(tmp_path):
    for part, number in (("train", 4), ("valid", 3), ("test", 2)):
        fill(tmp_path / part, cat=number, dog=number)
    source = opened(f"folder:{tmp_path}")
    assert [len(source.parts[part]) for part in ("train", "validation", "test")] == [8, 6, 4]


def test_parts_without_one_to_train_on_are_refused(tmp_path):
    fill(tmp_path / "Test", cat=1)
    fill(tmp_path / "val", cat=1)
    said = refusal(f"folder:{tmp_path}")
    assert f"has Test/, val/ and no train/: give the folder of one, as folder:{tmp_path}/Te" in said


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("train2017", "val2017"), ("",)),
        (("train", "test1"), ("",)),
        (("seg_train", "seg_test"), ("cat", "dog")),
        (("Train Images", "Test Images"), ("cat", "dog")),
        (("TrainingSet", "TestSet"), ("cat", "dog")),
        (("trn", "tst"), ("cat", "dog")),
        (("train", "holdout"), ("cat", "dog")),
        (("trainset", "testset"), ("",)),
    ],
)
def test_folders_that_look_like_parts_are_no_classes(tmp_path, names, classes):
    for name in names:
        for class_name in classes:
            draw(tmp_path / name / class_name / "1.png")
    said = refusal(f"folder:{tmp_path}")
    train, test = (f"folder:{tmp_path}/{name}" for name in names)
    assert f"look like parts and not like classes: give --data {train} --test-data {test}" in said


@pytest.mark.parametrize(
    "names", [("train station", "test tube"), ("train", "bus"), ("val", "dal"), ("tr", "te")]
)
def test_classes_that_have_such_a_word_in_their_names(tmp_path, names):
    fill(tmp_path, **dict.fromkeys(names, 2))
    assert opened(f"folder:{tmp_path}").class_names == tuple(sorted(names))


def test_parts_inside_each_class_are_said(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / name, train=2, test=1)
    source = opened(f"folder:{tmp_path}", hold_out=False)
    assert counts(source.train) == [3, 3]
    (note,) = source.notes
    assert note.startswith("warning: 2 class folders have the same sub-folders (test, train): ")
    assert "images in test/ are trained on like all others" in note


def test_class_folders_that_are_alike_inside_may_be_parts(tmp_path):
    for name in ("entrenamiento", "prueba"):
        fill(tmp_path / name, cat=2, dog=1)
    (note,) = opened(f"folder:{tmp_path}").notes
    assert "2 class folders have the same sub-folders (cat, dog): if these are the" in note


def test_a_part_inside_a_folder_of_its_name(tmp_path):
    fill(tmp_path / "train" / "train", cat=3, dog=2)
    fill(tmp_path / "test" / "test", cat=1, dog=1)
    source = opened(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    assert (counts(source.train), counts(source.test)) == ([3, 2], [1, 1])


def test_two_training_parts_are_refused(tmp_path):
    fill(tmp_path / "train", cat=1)
    fill(tmp_path / "training", cat=1)
    assert "has train/ and training/: which is trained on?" in refusal(f"folder:{tmp_path}")


def test_a_training_part_alone_is_said(tmp_path):
    fill(tmp_path / "train", cat=1, dog=1)
    (note,) = opened(f"folder:{tmp_path}").notes
    assert note == "train/ stands alone and is taken for the training part, not a class"


def test_a_part_among_classes_is_asked_about(tmp_path):
    fill(tmp_path, bus=2, train=2)
    (note,) = opened(f"folder:{tmp_path}").notes
    assert (
        f"train/ is taken for a class; if it is a part of the data, give folder:{tmp_path}" in note
    )


def test_what_lies_beside_the_parts_is_counted(tmp_path):
    for part in ("train", "test", "unlabeled"):
        fill(tmp_path / part, cat=2, dog=2)
    draw(tmp_path / "cover.png")
    source = opened(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    left_out = {(one.kind, one.place): one.count for one in source.left_out}
    assert left_out == {("images", "unlabeled/"): 4, ("images", "beside the parts"): 1}


# --- suffixes


def test_images_under_other_suffixes_count_and_the_rest_is_named(tmp_path):
    fill(tmp_path, cat=3, dog=1)
    for number in range(4):
        Image.new("RGB", (4, 4)).save(tmp_path / "dog" / f"b{number}.jfif", "JPEG")
    Image.new("RGB", (4, 4)).save(tmp_path / "dog" / "none", "PNG")
    for name in ("dog/1.heic", "dog/2.HEIC", "cat/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    source = opened(f"folder:{tmp_path}", hold_out=False)
    assert counts(source.train) == [3, 6]
    left_out = [(one.kind, one.place, one.count) for one in source.left_out]
    assert left_out == [(".txt", "cat", 1), (".heic", "dog", 2)]


@pytest.mark.parametrize("flag", ["test_data", "val_data"])
def test_what_is_left_out_of_other_images_is_counted(tmp_path, flag):
    fill(tmp_path / "own", cat=10, dog=5)
    fill(tmp_path / "other", cat=2, dog=1)
    (tmp_path / "other/cat/9.heic").write_bytes(b"no image")
    (tmp_path / "other/emu").mkdir()
    source = opened(f"folder:{tmp_path}/own", **{flag: f"folder:{tmp_path}/other"})
    assert [(one.kind, one.place, one.count) for one in source.left_out] == [(".heic", "cat", 1)]
    assert source.notes == ("no images in emu: no class is made of that",)


def test_a_folder_of_what_cannot_be_read_says_what_it_is(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.heic").write_bytes(b"x")
    assert "has no images, only .heic" in refusal(f"folder:{tmp_path}")


# --- links


def test_links_to_folders_inside_a_class(tmp_path):
    root = tmp_path / "set"
    fill(root, cat=1, dog=1)
    fill(tmp_path / "store", more=3)
    (root / "dog" / "linked").symlink_to(tmp_path / "store" / "more")
    (root / "dog" / "back").symlink_to("..")
    (root / "emu").symlink_to(tmp_path / "store" / "more")
    source = opened(f"folder:{root}", hold_out=False)
    assert counts(source.train, 3) == [1, 4, 3]
    assert all(source.train.path(row).is_file() for row in range(8))
    assert [(one.place, one.count) for one in source.left_out] == [("dog", 1)]


# --- parts without labels, empty folders, one class


def test_folders_that_stand_for_several_labels(tmp_path):
    fill(tmp_path, **{"Mass": 2, "Effusion": 2, "Effusion|Mass": 3})
    said = refusal(f"folder:{tmp_path}")
    assert said.startswith(f"{tmp_path}/Effusion|Mass/")
    assert "label 'Effusion|Mass' names several classes, parted by '|' (3 images have" in said


def test_a_test_part_without_labels_keeps_nobody_from_training(tmp_path):
    fill(tmp_path / "train", cat=10, dog=5)
    fill(tmp_path, test=6)
    source = opened(f"folder:{tmp_path}")
    assert (counts(source.train), counts(source.test)) == ([8, 4], [2, 1])
    assert source.notes == ("test/: 6 images are not used, as they have no labels",)


def test_a_folder_that_is_there_because_some_had_to_be_has_no_labels(tmp_path):
    fill(tmp_path / "train", cat=5, dog=5)
    fill(tmp_path / "test", unknown=6)
    assert "test/: 6 images are not used" in opened(f"folder:{tmp_path}").notes[0]


def test_a_training_part_without_labels(tmp_path):
    fill(tmp_path, train=5)
    fill(tmp_path / "test", cat=1, dog=1)
    source = opened(f"folder:{tmp_path}")
    assert (source.class_names, source.test, len(source.train)) == ((), None, 5)
    assert "test/: 2 images are not used, as those for training have no labels" in source.notes


def test_an_empty_class_folder_is_as_a_missing_one(tmp_path):
    fill(tmp_path / "train", cat=2, dog=2)
    fill(tmp_path / "test", cat=1)
    for name in ("train/emu", "test/dog", "test/emu"):
        (tmp_path / name).mkdir()
    source = opened(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    assert counts(source.test) == [1, 0]
    assert source.notes[0] == "no images in emu: no class is made of that"


def test_one_class_is_a_warning_that_says_where_the_classes_may_be(tmp_path):
    fill(tmp_path / "PetImages", Cat=3, Dog=2)
    source = opened(f"folder:{tmp_path}")
    assert source.class_names == ("PetImages",)
    inside, one = source.notes
    assert f"if these are the classes or parts, give folder:{tmp_path}/PetImages" in inside
    assert one == "warning: there is one class only, 'PetImages'"
    assert opened(f"folder:{tmp_path}/PetImages").notes == ()


def test_spellings_of_one_letter_are_one_class(tmp_path):
    fill(tmp_path / "train", **{"caf\u00e9": 2, "cafe\u0301": 3, "tea": 1})
    fill(tmp_path / "test", **{"cafe\u0301": 1})
    source = opened(f"folder:{tmp_path}")
    assert source.class_names == ("caf\u00e9", "tea")
    assert (counts(source.train), counts(source.test)) == ([5, 1], [1, 0])
    assert all(source.train.path(row).is_file() for row in range(6))
    assert "2 folders spell 'caf\u00e9' in different bytes" in source.notes[0]


# --- what decoding is told


def test_every_part_is_decoded_as_the_flags_say(tmp_path):
    for part in ("train", "val", "test"):
        for name, value in (("cat", 0), ("dog", 4095)):
            path = tmp_path / part / name / "1.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((4, 4), value, np.uint16)).save(path)
    source = opened(f"folder:{tmp_path}", value_range=(0.0, 4095.0))
    for table in source.parts.values():
        assert [table.read(row).getpixel((0, 0))[0] for row in range(2)] == [0, 255]
    source = opened(f"folder:{tmp_path}", test_data=f"folder:{tmp_path}", value_range=(0.0, 8190.0))
    assert source.test.take(np.array([1])).read(0).getpixel((0, 0))[0] == 128


def test_names_of_files_stay_as_they_are_on_the_disk(tmp_path):
    fill(tmp_path, **{"cafe\u0301": 1, "tea": 1})
    assert names(opened(f"folder:{tmp_path}", hold_out=False).train)[0] == "cafe\u0301/0.png"
