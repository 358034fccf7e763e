import hashlib
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_source
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.table import all_rows


def at(root, **others):
    return SourceOptions(data_root=root, **others)


def draw(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)


def names(table):
    return [name.decode() for name in table.names.tolist()]


# --- names


def test_an_unknown_name_proposes_the_nearest():
    with pytest.raises(ConfigError, match=r"--data cifar1000: unknown, did you mean cifar100\?"):
        open_source("cifar1000", SourceOptions())


def test_an_argument_where_none_belongs():
    with pytest.raises(ConfigError, match="--data digits:7: digits takes nothing after a colon"):
        open_source("digits:7", SourceOptions())


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "folder:x",
            {"label_column": "dx"},
            "--label-column: has no effect on folder:x, only on csv",
        ),
        (
            "list:x",
            {"image_column": "a"},
            "--image-column: has no effect on list:x, only on csv:, c",
        ),
        ("hf:x", {"split_column": "a"}, "--split-column: has no effect on hf:x, only on csv:"),
        (
            "digits",
            {"label_column": "none"},
            "--label-column: has no effect on digits, only on fol",
        ),
        (
            "cifar10",
            {"value_range": (0.0, 9.0)},
            "--value-range: has no effect on cifar10, only on",
        ),
        (
            "digits",
            {"max_image_mpix": 9},
            "--max-image-mpix: has no effect on digits, only on fold",
        ),
    ],
)
def test_flags_that_no_source_reads(name, options, says):
    with pytest.raises(ConfigError, match=f"^{says}"):
        open_source(name, SourceOptions(**options))


LONG = "x" * 300


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (f"folder:/{LONG}", "no such folder of images"),
        (f"hf:./{LONG}", "no such file or folder"),
        (f"csv:{LONG}", "File name too long"),
        (LONG, "unknown, did you mean"),
    ],
)
def test_paths_that_are_too_long(name, says):
    with pytest.raises((ConfigError, DataError), match=says):
        open_source(name, SourceOptions())


def test_long_paths_in_a_list(tmp_path):
    (tmp_path / "l.txt").write_text(f"{LONG}.png 0\n")
    with pytest.raises(DataError, match=r"line 1: .* has no file x{100}\.\.\.x{96}\.png "):
        open_source(f"list:{tmp_path}/l.txt", SourceOptions())


def test_a_flag_that_another_source_reads(tmp_path):
    draw(tmp_path / "cat" / "1.png")
    (tmp_path / "test.csv").write_text("image,dx\ncat/1.png,cat\n")
    options = SourceOptions(test_data=f"csv:{tmp_path}/test.csv", label_column="dx")
    assert len(open_source(f"folder:{tmp_path}", options).test) == 1


@pytest.mark.parametrize("value_range", [(1.0,), (1.0, 1.0), (2.0, 1.0), (0.0, float("nan"))])
def test_a_range_is_two_numbers(value_range):
    with pytest.raises(
        ConfigError, match=r"--value-range .*: give two numbers, the lower one first"
    ):
        SourceOptions(value_range=value_range)


# --- digits


def test_digits_share_out_scikit_learns_images():
    source = open_source("digits", SourceOptions())
    train, test = source.train, source.test
    assert train.pixels.shape == (1497, 3, 32, 32)
    assert train.pixels.dtype == test.pixels.dtype == torch.uint8
    assert torch.bincount(test.labels).tolist() == [30] * 10
    together = torch.bincount(train.labels) + torch.bincount(test.labels)
    assert together.tolist() == np.bincount(load_digits().target).tolist()
    everything = torch.cat([train.pixels, test.pixels]).flatten(1)
    original = np.unique(load_digits().images.reshape(1797, -1), axis=0)
    assert len(torch.unique(everything, dim=0)) == len(original)


def test_digits_look_like_the_originals():
    source = open_source("digits", SourceOptions())
    train = source.train
    assert torch.equal(train.pixels[:, 0], train.pixels[:, 1])
    small = torch.nn.functional.avg_pool2d(train.pixels[:, :1].float(), 4).flatten(1)
    original = torch.from_numpy(load_digits().images).float().flatten(1) * (255 / 16)
    nearest = torch.cdist(small, original).argmin(1)
    found = torch.from_numpy(load_digits().target)[nearest]
    assert torch.equal(found, train.labels)
    # A few digits are nearly twins.
    assert len(nearest.unique()) > 1490


def test_digits_channel_statistics():
    source = open_source("digits", SourceOptions())
    pixels = source.train.pixels.double() / 255
    for constant, found in (
        (source.mean, pixels.mean((0, 2, 3))),
        (source.std, pixels.std((0, 2, 3), correction=0)),
    ):
        np.testing.assert_allclose(constant, found, atol=1e-6)


def test_digits_are_the_same_every_time():
    first, second = (open_source("digits", SourceOptions()).test for _ in range(2))
    assert torch.equal(first.pixels, second.pixels)


# --- CIFAR


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_from_parquet(shared_data, name, num_classes):
    source = open_source(name, at(shared_data))
    train, test = source.train, source.test
    assert len(source.class_names) == num_classes
    assert torch.bincount(train.labels).tolist() == [50_000 // num_classes] * num_classes
    assert torch.bincount(test.labels).tolist() == [10_000 // num_classes] * num_classes
    rows = np.array([49_999, 3, 1000, 999, 3_017])
    taken = train.take(rows)
    assert taken.pixels.shape == (5, 3, 32, 32)
    assert torch.equal(taken.labels, train.labels[torch.from_numpy(rows)])
    for place, row in enumerate(rows):
        assert torch.equal(train.take(np.array([row])).pixels[0], taken.pixels[place])


def test_cifar_means_of_some(shared_data):
    source = open_source("cifar10", at(shared_data))
    pixels = source.train.take(np.arange(0, 50_000, 25)).pixels.double() / 255
    np.testing.assert_allclose(pixels.mean((0, 2, 3)), source.mean, atol=0.01)
    np.testing.assert_allclose(pixels.std((0, 2, 3), correction=0), source.std, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("cifar10", (0.49139968, 0.48215841, 0.44653091)),
        ("cifar100", (0.50707516, 0.48654887, 0.44091784)),
    ],
)
def test_cifar_means_of_all(shared_data, name, mean):
    source = open_source(name, at(shared_data))
    channels = all_rows(source.train).pixels.unbind(1)
    # From histograms: 50,000 images in double precision would take more than a gigabyte.
    share = [torch.bincount(c.flatten(), minlength=256) / (50_000 * 1024) for c in channels]
    share = torch.stack(share).double().numpy()
    values = np.arange(256) / 255
    found = share @ values
    np.testing.assert_allclose(found, mean, atol=1e-7)
    np.testing.assert_allclose(source.mean, mean, atol=1e-8)
    np.testing.assert_allclose(np.sqrt(share @ values**2 - found**2), source.std, atol=1e-7)


def test_the_folder_itself_may_be_given(shared_data):
    source = open_source("cifar100", at(shared_data / "cifar100"))
    assert source.class_names[0] == "apple"
    with pytest.raises(DataError, match="has no column fine_label"):
        open_source("cifar100", at(shared_data / "cifar10"))


def test_absent_cifar_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError) as caught:
        open_source("cifar100", at(tmp_path / "nowhere"))
    for word in ("nowhere", "cifar-100-python/", "train-*.parquet", "--data-root", "--download"):
        assert word in str(caught.value)


@pytest.fixture
def fake_cifar10(tmp_path, monkeypatch):
    """Torchvision's layout with two training and one test image, and checksums to match."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def dump(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    image = np.arange(3 * 32 * 32) % 251
    batch = {"data": np.stack([image, image[::-1]]).astype(np.uint8), "labels": [1, 0]}
    meta = {"filename": "batches.meta", "key": "label_names"}
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", dump("data_batch_1", batch)]])
    batch = {"data": batch["data"][:1], "labels": [1]}
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", dump("test_batch", batch)]])
    names = {"label_names": ["plane", "car"]}
    monkeypatch.setattr(CIFAR10, "meta", meta | {"md5": dump("batches.meta", names)})
    return tmp_path, image


def test_torchvision_layout(fake_cifar10):
    root, image = fake_cifar10
    source = open_source("cifar10", at(root))
    assert source.class_names == ("plane", "car")
    train = source.train
    assert train.labels.tolist() == [1, 0]
    assert train.pixels[0].flatten().tolist() == image.tolist()
    assert train.pixels[1].flatten().tolist() == image[::-1].tolist()
    assert source.test.labels.tolist() == [1]


@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_a_wrong_checksum_is_named_and_nothing_is_unpickled(fake_cifar10, name):
    root, _ = fake_cifar10
    path = root / "cifar-10-batches-py" / name

    class Bomb:
        def __reduce__(self):
            return (path.with_name("exploded").write_text, ("unpickled",))

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=f"{name}: MD5 [0-9a-f]{{32}}, expected [0-9a-f]{{32}}"):
        open_source("cifar10", at(root))
    assert not path.with_name("exploded").exists()
    path.unlink()
    with pytest.raises(DataError, match=f"{name}: MD5 no file"):
        open_source("cifar10", at(root))


def test_a_download_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    root = tmp_path / "new"

    def broken(url, folder, name):
        Path(folder, name).write_bytes(b"half of an archive")
        raise RuntimeError("connection lost")

    monkeypatch.setattr(utils, "download_url", broken)
    with pytest.raises(DataError, match=r"cifar10: download into .* failed: connection lost"):
        open_source("cifar10", at(root, download=True))
    assert list(root.iterdir()) == []


def test_a_python_that_cannot_unpack_safely_is_named(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DataError, match=r"cifar10: --download needs Python 3\.10\.12"):
        open_source("cifar10", at(tmp_path, download=True))


def test_a_download_is_moved_into_place(fake_cifar10, monkeypatch):
    from torchvision.datasets import CIFAR10, utils

    root, _ = fake_cifar10
    folder, archive = root / "cifar-10-batches-py", root / "server.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)
    monkeypatch.setattr(
        utils, "download_url", lambda url, to, name: shutil.copy(archive, Path(to, name))
    )
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    source = open_source("cifar10", at(root, download=True))
    assert source.train.labels.tolist() == [1, 0]
    assert {p.name for p in root.iterdir()} == {"cifar-10-batches-py", "server.tar.gz"}


# --- folders


def test_class_folders_with_a_held_out_test_set(tmp_path):
    for number in range(10):
        draw(tmp_path / "cat" / "deep" / f"{number}.png")
    for number in range(2):
        draw(tmp_path / "ant" / f"{number}.JPG")
    draw(tmp_path / "bee" / "only.webp")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    draw(tmp_path / "cat" / ".hidden.png")
    draw(tmp_path / ".thumbs" / "x.png")
    source = open_source(f"folder:{tmp_path}", SourceOptions())
    train, test = source.train, source.test
    assert source.class_names == ("ant", "bee", "cat")
    assert torch.bincount(train.labels).tolist() == [1, 1, 8]
    assert torch.bincount(test.labels, minlength=3).tolist() == [1, 0, 2]
    assert set(names(train)).isdisjoint(names(test))
    assert len(names(train)) + len(names(test)) == 13
    assert all(train.path(row).is_file() for row in range(len(train)))
    again = open_source("folder", at(tmp_path))
    assert names(again.test) == names(test)
    for row in range(len(train)):
        assert names(train)[row].startswith(source.class_names[train.labels[row]])


@pytest.mark.parametrize("part", ["test", "val"])
def test_train_and_test_folders(tmp_path, part):
    for name in ("ant", "bee"):
        draw(tmp_path / "train" / name / "1.png")
    draw(tmp_path / part / "bee" / "2.png")
    source = open_source(f"folder:{tmp_path}", SourceOptions())
    assert names(source.train) == ["ant/1.png", "bee/1.png"]
    assert names(source.test) == ["bee/2.png"]
    assert source.test.labels.tolist() == [1]


def test_train_alone_is_a_part_and_beside_others_a_class(tmp_path):
    for number in range(5):
        draw(tmp_path / "train" / "ant" / f"{number}.png")
    source = open_source(f"folder:{tmp_path}", SourceOptions())
    assert source.class_names == ("ant",)
    assert (len(source.train), len(source.test)) == (4, 1)
    draw(tmp_path / "bus" / "1.png")
    assert open_source(f"folder:{tmp_path}", SourceOptions()).class_names == ("bus", "train")


def test_a_flat_folder_has_no_labels_and_no_test_set(tmp_path):
    for number in range(3):
        draw(tmp_path / f"{number}.png")
    source = open_source(f"folder:{tmp_path}", SourceOptions())
    assert source.class_names == ()
    assert source.test is None
    assert source.train.labels.tolist() == [-1] * 3
    assert source.notes == ()
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "1.json").write_text("{}")
    beside = open_source(f"folder:{tmp_path}", SourceOptions())
    assert names(beside.train) == names(source.train)
    assert beside.notes == ("no images in masks: those beside it have no labels",)
    assert [(one.kind, one.place) for one in beside.left_out] == [(".json", "masks")]


def test_names_that_are_not_ascii(tmp_path):
    draw(tmp_path / "Käfer 甲虫" / "grün ist.png")
    source = open_source(f"folder:{tmp_path}", SourceOptions())
    assert source.class_names == ("Käfer 甲虫",)
    assert isinstance(source.train, FileTable)
    assert source.train.path(0).is_file()


def test_folders_that_cannot_be_used(tmp_path):
    def refused(match):
        with pytest.raises(DataError, match=match):
            open_source(f"folder:{tmp_path / 'pictures'}", SourceOptions())

    root = tmp_path / "pictures"
    refused("pictures: no such folder of images .*--data-root")
    root.mkdir()
    refused("pictures: has no images")
    (root / "ant").mkdir()
    refused("pictures: has no images")
    draw(root / "ant" / "1.png")
    draw(root / "loose.png")
    refused(r"both class folders and loose images such as loose\.png")


def test_test_classes_must_be_trained(tmp_path):
    draw(tmp_path / "train" / "ant" / "1.png")
    draw(tmp_path / "test" / "bee" / "1.png")
    with pytest.raises(DataError, match=r"test: class 'bee' is not in .* has 'ant' that is not"):
        open_source(f"folder:{tmp_path}", SourceOptions())


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path, monkeypatch):
    draw(tmp_path / "ant" / "1.png")
    draw(tmp_path / "ant" / "locked" / "2.png")
    scandir = os.scandir

    def guarded(path):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match="locked: cannot be read: Permission denied"):
        open_source(f"folder:{tmp_path}", SourceOptions())
