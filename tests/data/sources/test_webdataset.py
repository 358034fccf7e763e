"""Tar shards as WebDataset writes them: what is read from where, and what is refused."""

import io
import json
import pickle
import tarfile

import fsspec
import numpy as np
import pytest
import torch

from ssl_lt.core import progress
from ssl_lt.core.errors import DataError
from ssl_lt.data.remote.shards import ShardCache, find_shards, open_shard
from ssl_lt.data.remote.tar_index import INDEX_SUFFIX, Suffixes, index_tar, write_index
from tests.data.own_pictures import names, opened, png, reds, refusal


def shard(path, members):
    """A tar file of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(values, labels=None):
    for place, value in enumerate(values):
        yield f"{value:03}.png", png(value)
        if labels is not None:
            yield f"{value:03}.cls", str(labels[place]).encode()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where indices and copies go, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_shard.cache_clear()
    return tmp_path / "cache" / "ssl_lt"


@pytest.fixture
def memory():
    """fsspec's store in memory, empty before and after: a place on another machine."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture
def two(tmp_path):
    """Seven pictures in two shards."""
    shard(tmp_path / "a-0.tar", samples([0, 1, 2, 3], [1, 0, 2, 1]))
    shard(tmp_path / "a-1.tar", samples([4, 5, 6], [2, 2, 0]))
    return tmp_path


# --- what is read


@pytest.mark.parametrize("pattern", ["a-{0..1}.tar", "a-*.tar", "", "a-0.tar::{at}/a-{1,}.tar"])
def test_shards_are_named_in_every_usual_way(two, pattern):
    if pattern.endswith("{1,}.tar"):
        pattern = "a-0.tar::{at}/a-{1,1}.tar".replace("{at}", str(two)).replace("{1,1}", "{1..1}")
    source = opened(f"wds:{two}/{pattern}", hold_out=False)
    table = source.train
    assert source.class_names == ("0", "1", "2")
    assert table.labels.tolist() == [1, 0, 2, 1, 2, 2, 0]
    assert reds(table) == list(range(7))
    assert names(table)[3:5] == ["a-0.tar, 003.png", "a-1.tar, 004.png"]
    assert source.test is None


def test_rows_keep_their_images_when_taken_and_pickled(two):
    table = opened(f"wds:{two}/a-*.tar", hold_out=False).train
    rows = np.array([6, 0, 4])
    taken = pickle.loads(pickle.dumps(table.take(rows)))
    assert reds(taken) == [6, 0, 4]
    assert taken.labels.tolist() == [0, 1, 2]
    assert taken.fingerprint() == table.take(rows).fingerprint() != table.fingerprint()


def test_the_fingerprint_follows_the_samples_and_not_the_place(two):
    before = opened(f"wds:{two}", hold_out=False).train.fingerprint()
    (two / "moved").mkdir()
    for path in sorted(two.glob("*.tar")):
        path.rename(two / "moved" / path.name.replace("a-", "b-"))
    assert opened(f"wds:{two}/moved", hold_out=False).train.fingerprint() == before
    shard(two / "moved/b-1.tar", samples([4, 6, 5], [2, 2, 0]))
    assert opened(f"wds:{two}/moved", hold_out=False).train.fingerprint() != before


def test_other_members_are_left_alone_and_suffixes_can_be_named(tmp_path):
    members = [
        ("__meta__.json", b"{}"),
        ("./deep/er/x.1.seg.png", png(9)),
        ("./deep/er/x.png", png(7)),
        ("./deep/er/x.json", b'{"cls": 1}'),
        ("./deep/er/x.input.jpg", png(8)),
        ("./deep/er/x.kind", b"wasp\n"),
        (".hidden.png", png(1)),
        ("readme", b"text"),
    ]
    shard(tmp_path / "s.tar", members)
    source = opened(f"wds:{tmp_path}/s.tar")
    assert reds(source.train) == [7]
    assert source.class_names == ()
    table = opened(f"wds:{tmp_path}/s.tar", image_column="input.jpg").train
    assert reds(table) == [8]
    source = opened(f"wds:{tmp_path}/s.tar", label_column="kind", hold_out=False)
    assert source.class_names == ("wasp",)
    assert opened(f"wds:{tmp_path}/s.tar", label_column="none").class_names == ()


def test_test_shards_are_tested_on_under_the_classes_of_the_training_set(tmp_path):
    shard(tmp_path / "train-0.tar", samples([0, 1, 2], ["bee", "ant", "wasp"]))
    shard(tmp_path / "val-0.tar", samples([7], ["ant"]))
    shard(tmp_path / "test-0.tar", samples([8, 9], ["wasp", "bee"]))
    source = opened(f"wds:{tmp_path}")
    assert source.class_names == ("ant", "bee", "wasp")
    assert reds(source.train) == [0, 1, 2]
    assert source.test.labels.tolist() == [2, 1]
    shard(tmp_path / "test-0.tar", samples([8, 9], ["wasp", "fly"]))
    said = refusal(f"wds:{tmp_path}")
    assert "test-0.tar: class 'fly' is not in wds:" in said


def test_shards_under_other_names_of_parts(tmp_path):
    shard(tmp_path / "Train-0.tar", samples([0, 1, 2], ["bee", "ant", "wasp"]))
    shard(tmp_path / "valid-0.tar", samples([7], ["ant"]))
    shard(tmp_path / "Testing-0.tar", samples([8, 9]))
    shard(tmp_path / "extra-0.tar", samples([3], ["bee"]))
    source = opened(f"wds:{tmp_path}", hold_out=False)
    assert (reds(source.train), reds(source.validation), source.test) == ([0, 1, 2], [7], None)
    assert [(one.kind, one.place) for one in source.left_out] == [("shard", "extra-0.tar")]
    assert "Testing-0.tar and on: 2 images are not used, as they have no labels" in source.notes


def test_parts_inside_the_names_of_shards_or_of_their_folders(tmp_path):
    for train, val in (("a/net-train-0.tar", "a/net-val-0.tar"), ("b/train/0.tar", "b/val/0.tar")):
        for name, numbers in ((train, [0, 1]), (val, [7, 8])):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shard(tmp_path / name, samples(numbers, ["ant", "bee"]))
    for shards in ("a/*.tar", "b/*/*.tar"):
        source = opened(f"wds:{tmp_path}/{shards}", hold_out=False)
        assert (reds(source.train), reds(source.test)) == ([0, 1], [7, 8])


def test_test_shards_that_are_trained_on_are_said(tmp_path):
    shard(tmp_path / "0.tar", samples([0, 1], ["ant", "bee"]))
    shard(tmp_path / "test-0.tar", samples([7, 8], ["ant", "bee"]))
    (note,) = opened(f"wds:{tmp_path}", hold_out=False).notes
    assert note == "test-0.tar is trained on like all others, as none says train in its name"


def test_several_labels_in_a_member(tmp_path):
    shard(tmp_path / "s.tar", samples([0, 1, 2], ["bee", "bee|ant", "ant"]))
    said = refusal(f"wds:{tmp_path}/s.tar")
    assert "s.tar, 001.png: label 'bee|ant' names several classes" in said


def test_packed_class_names_go_with_the_numbers(two):
    (two / "index.json").write_text(json.dumps({"class_names": ["ant", "bee", "fly"]}))
    source = opened(f"wds:{two}", hold_out=False)
    assert source.class_names == ("ant", "bee", "fly")
    assert source.train.labels.tolist() == [1, 0, 2, 1, 2, 2, 0]
    (two / "index.json").write_text(json.dumps({"class_names": ["ant", "bee"]}))
    assert "class 2 has no name in index.json, which has 2" in refusal(f"wds:{two}")


# --- indices


def test_a_shard_is_walked_through_once(two, cache, monkeypatch):
    first = opened(f"wds:{two}", hold_out=False).train
    assert len(list(cache.glob("*.npz"))) == 2

    def walk(*args, **options):
        raise AssertionError("walked through again")

    monkeypatch.setattr("ssl_lt.data.sources.webdataset.index_tar", walk)
    again = opened(f"wds:{two}", hold_out=False).train
    assert again.fingerprint() == first.fingerprint()
    shard(two / "a-1.tar", samples([4, 5], [2, 2]))
    with pytest.raises(AssertionError, match="walked through again"):
        opened(f"wds:{two}")


def test_indexing_is_watched(two, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    opened(f"wds:{two}")
    assert f"wds:{two}: indexing shards: 2 of 2" in capsys.readouterr().err


def test_a_damaged_index_is_made_anew(two, cache):
    want = opened(f"wds:{two}", hold_out=False).train.fingerprint()
    for path in cache.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    assert opened(f"wds:{two}", hold_out=False).train.fingerprint() == want


def test_offsets_are_where_tarfile_finds_the_members(tmp_path):
    long = "x" * 150  # longer than a header has room for
    path = shard(tmp_path / "s.tar", [(f"{long}/1.png", png(1)), (f"{long}/2.png", png(2))])
    index = index_tar(path.open("rb"), Suffixes(), name="s")
    blob = path.read_bytes()
    for offset, size, value in zip(index.offsets, index.sizes, (1, 2), strict=True):
        assert blob[offset : offset + size] == png(value)


# --- other machines


def put(store, two):
    for path in sorted(two.glob("*.tar")):
        with store.open(f"/bucket/{path.name}", "wb") as file:
            file.write(path.read_bytes())


def test_objects_are_fetched_when_they_are_needed(two, memory, cache):
    put(memory, two)
    here = opened(f"wds:{two}", hold_out=False).train
    source = opened("wds:memory://bucket/a-{0..1}.tar", hold_out=False)
    assert source.train.fingerprint() == here.fingerprint()
    for path in cache.glob("*.tar"):
        path.unlink()
    open_shard.cache_clear()
    table = opened("wds:memory://bucket/a-*.tar", hold_out=False).train
    assert list(cache.glob("*.tar")) == []  # the index was kept
    assert reds(table.take(np.array([5, 4]))) == [5, 4]
    assert [path.read_bytes() for path in cache.glob("*.tar")] == [(two / "a-1.tar").read_bytes()]
    assert reds(table) == list(range(7))


def test_an_index_beside_a_shard_spares_fetching_it(two, memory, cache):
    put(memory, two)
    for path in sorted(two.glob("*.tar")):
        beside = two / (path.name + INDEX_SUFFIX)
        write_index(
            beside, index_tar(path.open("rb"), Suffixes(), name="x"), tar_bytes=path.stat().st_size
        )
        memory.pipe(f"/bucket/{beside.name}", beside.read_bytes())
    source = opened("wds:memory://bucket/a-*.tar", hold_out=False)
    assert source.train.labels.tolist() == [1, 0, 2, 1, 2, 2, 0]
    assert not cache.exists()
    assert reds(source.train.take(np.array([2]))) == [2]
    # One of another shard is none.
    memory.cp_file(f"/bucket/a-0.tar{INDEX_SUFFIX}", f"/bucket/a-1.tar{INDEX_SUFFIX}")
    shard(two / "a-1.tar", samples(range(60, 90), [0] * 30))
    memory.pipe("/bucket/a-1.tar", (two / "a-1.tar").read_bytes())
    assert len(opened("wds:memory://bucket/a-*.tar", hold_out=False).train) == 34


def test_a_store_that_hides_the_index_or_fails(two, memory, monkeypatch):
    put(memory, two)
    error = Exception("403, message='Forbidden'")
    error.status = 403
    read = type(memory).cat_file

    def cat_file(self, path, *more, **others):
        if path.endswith(".tar"):
            return read(self, path, *more, **others)
        raise error

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    assert opened("wds:memory://bucket/a-{0,1}.tar").class_names == ("0", "1", "2")
    error.status = 500
    said = refusal("wds:memory://bucket/a-{0,1}.tar")
    assert said == "memory:///bucket/a-0.tar: index.json beside it: 403, message='Forbidden'"


def test_copies_stay_below_their_limit(two, memory, tmp_path):
    blobs = {name: bytes([ord(name)]) * 2**20 for name in "abc"}
    for name, blob in blobs.items():
        memory.pipe(f"/bucket/{name}.tar", blob)
    store = ShardCache(tmp_path / "copies", limit_mib=2)
    found = find_shards("memory://bucket/{a,b,c}.tar", source="x")
    kept = [open_shard(file, store) for file in found]
    assert len(list(store.folder.glob("*.tar"))) == 2
    # A copy that was removed is still read by who has it open, and fetched anew by others.
    assert [file.read(1) for file in kept] == [b"a", b"b", b"c"]
    open_shard.cache_clear()
    assert open_shard(found[0], store).read() == blobs["a"]
    assert len(list(store.folder.glob("*.tar"))) == 2


def test_an_object_that_changed_or_is_gone_is_said(two, memory, tmp_path):
    put(memory, two)
    store = ShardCache(tmp_path / "copies", limit_mib=0)
    found = find_shards("memory://bucket/a-{0..1}.tar", source="x")
    memory.pipe("/bucket/a-0.tar", b"short")
    with pytest.raises(DataError, match=r"memory:///bucket/a-0.tar: has 5 bytes by now, had \d+"):
        open_shard(found[0], store)
    memory.rm("/bucket/a-1.tar")
    with pytest.raises(DataError, match=r"memory:///bucket/a-1.tar: cannot be fetched: "):
        open_shard(found[1], store)
    assert [path.suffix for path in store.folder.iterdir()] == [".lock", ".lock"]


# --- bad input


def test_what_is_not_there_is_said(two):
    assert refusal(f"wds:{two}/b.tar") == f"wds:{two}/b.tar: there is no shard {two}/b.tar"
    assert "there is no shard" in refusal(f"wds:{two}/b-*.tar")
    (two / "empty").mkdir()
    assert "there is no shard" in refusal(f"wds:{two}/empty")
    assert "a-0.tar comes twice" in refusal(f"wds:{two}/a-0.tar::{two}/a-*.tar")
    assert refusal("wds:") == "--data wds:: say which, as wds:URLS"
    assert "did you mean wds:" in refusal(f"{two}/a-0.tar")


def test_other_kinds_of_urls_are_said():
    assert "Protocol not known: gopher" in refusal("wds:gopher://host/a.tar")
    assert "commands are not run" in refusal("wds:pipe:cat a.tar")
    said = refusal("wds:s3://key:hunter2@bucket/a.tar")
    assert "has credentials" in said
    assert "hunter2" not in said


def test_a_cut_or_damaged_shard_is_said(two):
    path = two / "a-0.tar"
    whole = path.read_bytes()
    ends = index_tar(path.open("rb"), Suffixes(), name="s").offsets
    for length in (len(whole) - 9000, int(ends[2]) + 10, int(ends[2]) - 300, 700, 100, 0):
        path.write_bytes(whole[:length])
        said = refusal(f"wds:{path}")
        assert said.startswith((f"{path}: is cut off", f"{path}: not an uncompressed tar file"))
    damaged = bytearray(whole)
    damaged[int(ends[2]) - 512 : int(ends[2])] = b"x" * 512
    path.write_bytes(damaged)
    assert f"{path}: is damaged: there is no header at byte {ends[2] - 512}" in refusal(
        f"wds:{path}"
    )
    path.write_bytes(b"no tar file" * 100)
    assert f"{path}: not an uncompressed tar file" in refusal(f"wds:{path}")


def test_a_shard_that_is_cut_later_is_said_by_the_image(two):
    table = opened(f"wds:{two}/a-0.tar", hold_out=False).train
    with (two / "a-0.tar").open("r+b") as file:
        file.truncate(int(table.offsets[3]) + 5)
    assert reds(table.take(np.arange(3))) == [0, 1, 2]
    with pytest.raises(DataError, match=r"a-0.tar: is cut off: has no byte \d+"):
        table.read(3)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("a.cls", b"1")], "a has no image among cls (--image-column SUFFIX)"),
        ([("a.png", png(1)), ("a.jpg", png(1))], "a has several images among png, jpg"),
        ([("a.png", png(1)), ("a.png", png(1))], "a.png comes twice"),
        ([("a.png", png(1)), ("b.png", png(1)), ("a.png", png(1))], "a comes twice"),
        ([("readme", b"")], "has no images"),
        ([("a.png", png(1)), ("a.cls", b"0"), ("b.png", png(1))], "b.png has no label .cls"),
        ([("a.png", png(1)), ("a.cls", b"\xff")], "a label .cls is no text"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path, members, words):
    path = shard(tmp_path / "s.tar", members)
    assert words in refusal(f"wds:{path}")


def test_an_image_that_cannot_be_decoded_is_named_by_shard_and_member(tmp_path):
    path = shard(tmp_path / "s.tar", [("k/a.png", b"no image")])
    with pytest.raises(DataError, match=r"s.tar, k/a.png: not an image"):
        opened(f"wds:{path}").train.read(0)


def test_labels_do_not_hold_memory_of_images(two):
    table = opened(f"wds:{two}", hold_out=False).train
    assert table.labels.dtype == torch.int64
    arrays = (table.shards, table.offsets, table.sizes, table.ids)
    assert sum(array.itemsize for array in arrays) == 28
