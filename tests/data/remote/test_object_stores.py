"""Single images in an object store: the same data as in a folder, fetched when they are read."""

from __future__ import annotations

import os
import pickle
import time

import fsspec
import numpy as np
import pytest
import torch

from ssl_lt.core.errors import DataError, DiskError
from ssl_lt.data.images.crops import CentreSquare
from ssl_lt.data.loading.plan import BatchPlan
from ssl_lt.data.loading.worker_loader import WorkerLoader
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.remote.copies import open_copies
from ssl_lt.data.tables.content import content_sha256
from ssl_lt.data.tables.look import scan
from tests.data.bucket import Bucket, Walked, use_bucket
from tests.data.own_pictures import draw, names, opened, png, reds, refusal


@pytest.fixture
def store(monkeypatch, tmp_path):
    """The folder that `bucket://` shows."""
    return use_bucket(monkeypatch, tmp_path)


@pytest.fixture
def photos(store):
    """Five pictures of two classes in `bucket://photos`."""
    for value, name in enumerate(
        ("cat/1.png", "cat/b/2.PNG", "dog/3.png", "dog/4.png", "dog/5.png")
    ):
        draw(store / "photos" / name, value)
    return store / "photos"


def copies(tmp_path):
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


def alike(there, here):
    """Two sources hold the same under the same identity."""
    assert there.class_names == here.class_names
    for part in ("train", "test", "validation"):
        one, other = getattr(there, part)(), getattr(here, part)()
        assert (one is None) == (other is None), part
        if one is not None:
            assert type(one).__name__ == "ObjectTable"
            assert names(one) == names(other)
            assert reds(one) == reds(other)
            assert torch.equal(one.labels, other.labels)
            assert one.fingerprint() == other.fingerprint()
            assert content_sha256(one) == content_sha256(other)
    return True


# --- the same as in a folder

LAYOUTS = {
    "flat": ["2.png", "10.jpg", ".hidden.png", "notes.txt"],
    "classes": ["b/1.png", "a-b/1.png", "a/1.png", "a/deep/er/2.JPG", "a/.h/3.png", "a/read.me"],
    "train alone": ["train/x/1.png", "train/y/2.png"],
    "train beside others": ["train/1.png", "tram/2.png"],
    "test": ["train/x/1.png", "train/y/2.png", "test/y/3.png"],
    "val": ["train/x/1.png", "train/y/2.png", "val/y/3.png", ".git/config"],
    "all": ["train/x/1.png", "train/y/2.png", "val/y/3.png", "test/x/4.png"],
    "names": ["ä ö/ü%20#?.png", "z/1.png"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("end", ["", "/"])
def test_every_layout_is_read_as_in_a_folder_from_one_listing(store, layout, end):
    for value, name in enumerate(LAYOUTS[layout]):
        draw(store / "set" / name.replace("?", "!"), value)
    there = opened(f"folder:bucket://set{end}", hold_out=False)
    assert there.name == "folder:bucket://set"
    assert len(Bucket.listed) == 1
    assert Bucket.fetched == []
    assert alike(there, opened(f"folder:{store}/set", hold_out=False))


def test_a_store_in_memory_and_file_urls(photos):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for path in photos.rglob("*.*"):
        memory.pipe(f"/photos/{path.relative_to(photos)}", path.read_bytes())
    here = opened(f"folder:{photos}")
    assert alike(opened("folder:memory://photos"), here)
    assert alike(opened("folder", data_root="memory://photos"), here)
    memory.store.clear()
    source = opened(f"folder:file://{photos}")
    assert source.name == here.name  # a folder like any other
    assert source.train().fingerprint() == here.train().fingerprint()


LABELS = {"cat/1.png": 0, "dog/5.png": 1, "cat/b/2.PNG": 0, "dog/3.png": 1}


def write_lists(folder, before=""):
    lines = {f"{before}{path}": label for path, label in LABELS.items()}
    (folder / "own.csv").write_text("\ufeffimage;label\r\n" + "".join(
        f"{path};{'cat dog'.split()[label]}\r\n" for path, label in lines.items()
    ))  # fmt: skip
    (folder / "own.txt").write_text("".join(f"{path} {n}\n" for path, n in lines.items()))


@pytest.mark.parametrize("kind", ["csv:{}/own.csv", "list:{}/own.txt"])
def test_lists_and_images_may_lie_here_or_there(photos, kind, tmp_path):
    write_lists(photos)
    here = opened(kind.format(photos), hold_out=False)
    assert alike(opened(kind.format("bucket://photos"), hold_out=False), here)
    write_lists(tmp_path)
    root = {"data_root": "bucket://photos/", "hold_out": False}
    assert alike(opened(kind.format(tmp_path), **root), here)
    there = opened(kind.format("bucket://photos"), data_root=photos, hold_out=False).train()
    assert there.fingerprint() == here.train().fingerprint()
    write_lists(tmp_path, before="bucket://photos/")
    assert alike(opened(kind.format(tmp_path), **root), here)


def test_only_the_folder_that_holds_all_images_is_listed(photos):
    (photos / "own.txt").write_text("dog/3.png 0\ndog/../dog/4.png 1\n")
    opened("list:bucket://photos/own.txt")
    assert Bucket.listed == ["photos/dog"]


def test_a_test_set_may_lie_elsewhere(photos, tmp_path):
    for value, name in enumerate(("cat/8.png", "dog/9.png")):
        draw(tmp_path / "own" / name, 8 + value)
    source = opened("folder:bucket://photos", test_data=f"folder:{tmp_path}/own")
    assert reds(source.test()) == [8, 9]
    source = opened(f"folder:{tmp_path}/own", test_data="folder:bucket://photos")
    assert reds(source.test()) == [0, 1, 2, 3, 4]
    assert source.test().labels.tolist() == [0, 0, 1, 1, 1]


def test_a_folder_that_cannot_be_listed_is_not_passed_over(photos, monkeypatch):
    here = opened(f"folder:{photos}")
    assert alike(opened("folder:walked://photos"), here)
    listing = Walked.ls

    def ls(store, path, **options):
        if path.endswith("dog"):
            raise PermissionError("Access Denied")
        return listing(store, path, **options)

    monkeypatch.setattr(Walked, "ls", ls)
    assert refusal("folder:walked://photos").endswith("cannot be listed: Access Denied")


# --- reading


def test_rows_keep_their_images_when_taken_and_pickled(photos):
    table = opened("folder:bucket://photos", hold_out=False).train()
    taken = pickle.loads(pickle.dumps(table.take(np.array([4, 0]))))
    assert reds(taken) == [4, 0]
    assert taken.labels.tolist() == [1, 0]


@pytest.mark.parametrize("limit", [0, 1])
def test_workers_have_connections_of_their_own(photos, limit, monkeypatch):
    tables = [opened(f"folder:{at}", hold_out=False).train() for at in (photos, "bucket://photos")]
    reds(tables[1].take(np.array([0])))  # the process they are forked from has one by now
    plan, batches = BatchPlan(5, 2, seed=1), []
    for table in tables:
        loader = WorkerLoader(
            table,
            CentreSquare(1.0),
            plan,
            size=4,
            device=torch.device("cpu"),
            workers=Workers(2, timeout_seconds=60),
        )
        batches.append(list(loader.epoch(0)))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("number", [0, 1])
def test_an_object_that_vanishes_ends_the_epoch_in_one_line(photos, number):
    table = opened("folder:bucket://photos", hold_out=False).train()
    loader = WorkerLoader(
        table,
        CentreSquare(1.0),
        BatchPlan(5, 5, seed=1),
        size=4,
        device=torch.device("cpu"),
        workers=Workers(number),
    )
    (photos / "dog/4.png").unlink()
    with pytest.raises(DataError, match=r"\Abucket://photos/dog/4.png: no such file\Z"):
        list(loader.epoch(0))


def test_what_was_fetched_is_kept_and_not_fetched_again(photos, tmp_path):
    table = opened("folder:bucket://photos", hold_out=False).train()
    assert reds(table) == reds(table) == [0, 1, 2, 3, 4]
    assert len(Bucket.fetched) == 5
    assert reds(opened("folder:bucket://photos", hold_out=False).train()) == [0, 1, 2, 3, 4]
    assert len(Bucket.fetched) == 5
    assert sorted(path.read_bytes() for path in copies(tmp_path)) == sorted(map(png, range(5)))
    # A copy that was cut is none; an object that was written anew is another.
    next(path for path in copies(tmp_path) if path.read_bytes() == png(0)).write_bytes(b"")
    other = next(value for value in range(60, 250) if len(png(value)) == len(png(4)))
    draw(photos / "dog/5.png", other)
    assert reds(opened("folder:bucket://photos", hold_out=False).train()) == [0, 1, 2, 3, other]
    assert len(Bucket.fetched) == 7


def test_of_a_large_set_the_same_share_is_kept(store, tmp_path):
    blob = os.urandom(2**15)
    (store / "set").mkdir()
    for number in range(128):
        (store / f"set/{number}.png").write_bytes(blob)  # 4 MiB together
    table = opened("folder:bucket://set", shard_cache_mib=1).train()
    for _ in range(2):
        for row in range(128):
            assert table.encoded(row).read_bytes() == blob
    kept = copies(tmp_path)
    assert 16 <= len(kept) <= 48  # 32 expected
    assert len(Bucket.fetched) == 256 - len(kept)
    everything = opened("folder:bucket://set", shard_cache_mib=0).train()
    for row in range(128):
        everything.encoded(row).read_bytes()
    assert len(copies(tmp_path)) == 128


def test_room_is_made_of_what_was_not_used_for_a_day(tmp_path):
    def write(name, size, days):
        path = tmp_path / "images" / "other" / "ab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        used = time.time() - days * 86400
        os.utime(path, (used, used))
        return path

    oldest, old, new = write("a", 2**19, 9), write("b", 2**19, 3), write("c", 2**19, 0.5)
    open_copies(tmp_path, 2, source="x", num_bytes=2**19)
    assert oldest.exists()  # there is room
    open_copies(tmp_path, 2, source="x", num_bytes=2**20)
    assert not oldest.exists()
    assert old.exists()
    open_copies(tmp_path, 1, source="x", num_bytes=2**30)
    assert not old.exists()
    assert new.exists()
    with pytest.raises(DiskError, match="--shard-cache"):
        open_copies(new, 1, source="x", num_bytes=1)


def test_a_full_disk_only_means_no_copy(photos, tmp_path):
    table = opened("folder:bucket://photos", hold_out=False).train()
    folder = next((tmp_path / "cache").rglob("images"))
    for path in folder.iterdir():
        path.rmdir()
    folder.rmdir()
    folder.write_bytes(b"in the way")
    assert reds(table) == reds(table) == [0, 1, 2, 3, 4]


# --- what cannot be read


def test_images_that_are_gone_or_cut_are_named(photos, tmp_path):
    (photos / "own.txt").write_text("dog/3.png 0\nnone.png 1\ndog/4.png 0\ndog/5.png 1\n")
    table = opened("list:bucket://photos/own.txt", hold_out=False).train()
    with pytest.raises(DataError, match=r"^bucket://photos/none.png: no such file$"):
        content_sha256(table)
    (photos / "dog/4.png").write_bytes(png(3)[:40])
    (photos / "dog/5.png").unlink()
    size = len(png(3))
    for row, says in enumerate(
        ["", "no such file", f"has 40 bytes by now, had {size}", "no such file"]
    ):
        if says:
            with pytest.raises(DataError) as caught:
                table.read(row)
            assert str(caught.value) == f"{table.path(row)}: {says}"
    assert [look.problem for look in scan(table)] == [
        *("", "no such file", f"has 40 bytes by now, had {size}", "no such file")
    ]


def test_a_store_that_does_not_answer_is_said(photos, monkeypatch):
    table = opened("folder:bucket://photos", hold_out=False).train()
    (photos / "own.csv").write_text("image\ndog/3.png\n")
    monkeypatch.setattr(Walked, "failure", ConnectionError("no route\nto host"))
    said = "bucket://photos/cat/1.png: cannot be fetched: no route to host"
    with pytest.raises(DataError, match=f"^{said}$"):
        table.read(0)
    for place in ("bucket://photos", "walked://photos"):
        said = f"folder:{place}: {place} cannot be listed: no route to host"
        assert refusal(f"folder:{place}") == said
    assert refusal("csv:bucket://photos/own.csv") == (
        "csv:bucket://photos/own.csv: cannot be read: cannot be fetched: no route to host"
    )


def test_what_is_not_there_is_said(photos):
    for place in ("bucket://nothing", "bucket://photos/cat/1.png"):
        assert refusal(f"folder:{place}").startswith(f"{place}: no such folder of images")
    (photos / "empty").mkdir()
    (photos / "empty/notes.txt").write_text("no image")
    assert refusal("folder:bucket://photos/empty").startswith(
        "bucket://photos/empty: has no images"
    )
    assert refusal("folder:bucket://photos") == (
        "bucket://photos/empty: class folder without images"
    )
    draw(photos / "loose.png")
    assert "class folders and loose images such as loose.png" in refusal("folder:bucket://photos")
    assert refusal("list:bucket://none.txt") == "list:bucket://none.txt: no such file"
    (photos / "own.txt").write_text("bird/1.png\n")
    assert "line 1: bucket://photos has no file bird/1.png" in refusal(
        "list:bucket://photos/own.txt"
    )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../x.png", "../x.png leaves the folder bucket://photos (--data-root says which)"),
        ("a/../../x.png", "a/../../x.png leaves the folder bucket://photos"),
        ("/photos/cat/1.png", "/photos/cat/1.png leaves the folder bucket://photos"),
        ("bucket://other/1.png", "bucket://other/1.png leaves the folder bucket://photos"),
        ("https://me:hunter2@host/1.png", "https://***@host/1.png leaves the folder"),
        ("https://host/1.png?X-Signature=hunter2", "https://host/1.png?*** leaves the folder"),
    ],
)
def test_paths_stay_below_the_root(photos, path, says):
    (photos / "own.txt").write_text(f"cat/1.png\n{path}\n")
    said = refusal("list:bucket://photos/own.txt")
    assert said.startswith(f"list:bucket://photos/own.txt: line 2: {says}")
    assert "hunter2" not in said


def test_urls_in_a_list_of_files_here_are_not_taken_for_paths(photos):
    (photos / "own.txt").write_text("cat/1.png\nbucket://photos/cat/b/2.PNG\n")
    assert "line 2: bucket://photos/cat/b/2.PNG leaves" in refusal(f"list:{photos}/own.txt")


def test_other_stores_and_credentials(photos, monkeypatch):
    assert refusal("folder:s3://bucket/x") == "folder:s3://bucket/x: Install s3fs to access S3"
    assert refusal("csv:gopher://x/y.csv") == "csv:gopher://x/y.csv: Protocol not known: gopher"
    said = refusal("cifar10", data_root="bucket://photos")
    assert said.startswith("--data-root bucket://photos: only folder:, csv: and list: are read")
    assert "did you mean folder:bucket://photos?" in refusal("bucket://photos")
    assert "did you mean csv:bucket://x/y.csv?" in refusal("bucket://x/y.csv")
    about = Walked._about
    monkeypatch.setattr(Walked, "_about", lambda *given: {**about(*given), "size": None})
    assert "does not say how large its files are" in refusal("folder:bucket://photos")
