"""`ssl-lt data pack`: the same bytes whatever happens on the way."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import signal
import tarfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_source
from tests.faults.process import Command
from tests.toolbox import call, refuses, succeed

pytestmark = pytest.mark.slow  # most of them train

CONFIG, DATA, DISK = 2, 3, 7
SMALL = ("--images-per-shard", "200")


def contents(folder):
    """File -> bytes, hidden ones too."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The digits, packed without a stop. Read the folder, do not add to it."""
    folder = tmp_path_factory.mktemp("packed") / "out"
    succeed("data", "pack", "digits", folder, *SMALL)
    return folder


def test_the_index_describes_the_shards(packed):
    index = json.loads((packed / "index.json").read_text())
    assert index["class_names"] == list("0123456789")
    shards = index["shards"]
    assert [(s["part"], s["start"], s["samples"]) for s in shards] == [
        *(("train", start, min(200, 1497 - start)) for start in range(0, 1497, 200)),
        ("test", 0, 200), ("test", 200, 100),
    ]  # fmt: skip
    for shard in shards:
        blob = (packed / shard["file"]).read_bytes()
        assert (len(blob), hashlib.sha256(blob).hexdigest()) == (shard["bytes"], shard["sha256"])
    lines = "".join(sorted(f"{s['file']} {s['sha256']}\n" for s in shards))
    assert index["sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    names = {s["file"] for s in shards}
    assert set(contents(packed)) == {"index.json", *names, *(f"{n}.index.npz" for n in names)}


def test_tar_shards_hold_every_sample_under_its_row(packed):
    source = open_source("digits", SourceOptions())
    for part, table in (("train", source.train), ("test", source.test)):
        found = {}
        for path in sorted(packed.glob(f"{part}-*.tar")):
            with tarfile.open(path) as tar:
                for member in tar:
                    assert (member.mtime, member.uid, member.uname) == (0, 0, "")
                    found[member.name] = tar.extractfile(member).read()
        keys = [f"{row:09}" for row in range(len(table))]
        assert list(found) == [f"{key}.{suffix}" for key in keys for suffix in ("png", "cls")]
        assert [int(found[f"{key}.cls"]) for key in keys] == table.labels.tolist()
        for row in (0, 199, 200, len(table) - 1):
            image = Image.open(io.BytesIO(found[f"{row:09}.png"]))
            assert np.array_equal(np.asarray(image), table.pixels[row].permute(1, 2, 0))


def test_packed_pictures_are_the_same_source(empty):
    """As wds:, with the same part held out for testing and the bytes of the files."""
    for c, name in enumerate(("lynx", "owl")):
        (empty / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.default_rng([c, i]).integers(0, 256, (9, 7 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(empty / f"photos/{name}/{i}.{'jpg' if i % 2 else 'png'}")
    succeed("data", "pack", "folder:photos", "out", "--images-per-shard", "7")
    before, after = (open_source(name, SourceOptions()) for name in ("folder:photos", "wds:out"))
    assert before.class_names == after.class_names
    for one, other in ((before.train, after.train), (before.test, after.test)):
        assert torch.equal(one.labels, other.labels)
        for row in range(len(one)):
            assert one.path(row).read_bytes() == other.encoded(row)
    with tarfile.open("out/train-000000.tar") as tar:
        assert [name for name in tar.getnames() if "cls" not in name][:2] == [
            "000000000.png", "000000001.jpg",
        ]  # fmt: skip


def test_without_labels(empty):
    (empty / "flat").mkdir()
    for i in range(3):
        Image.new("RGB", (5, 5), (i, 0, 0)).save(empty / "flat" / f"{i}.png")
    succeed("data", "pack", "folder:flat", "out")
    with tarfile.open("out/train-000000.tar") as tar:
        assert tar.getnames() == ["000000000.png", "000000001.png", "000000002.png"]


# --- stopped and given again


@pytest.mark.slow
def test_killed_in_the_middle_and_given_again_it_is_the_same(packed, tmp_path):
    words = ["pack", "digits", "out", *SMALL]
    command = Command(tmp_path, "data", *words)
    out = tmp_path / "out"
    deadline = time.monotonic() + 240
    while len(list(out.glob("train-*.tar"))) < 3:
        assert time.monotonic() < deadline, command.said
    assert command.send(signal.SIGKILL) == -signal.SIGKILL
    index = json.loads((out / "index.json").read_text())
    assert 2 <= len(index["shards"]) < 10
    assert index["sha256"] is None
    kept = {s["file"]: (out / s["file"]).stat().st_mtime_ns for s in index["shards"]}
    said = succeed("data", "pack", "digits", out, *SMALL).out
    assert f"{len(kept)} of 10 shards are finished" in said
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert contents(out) == contents(packed)


def test_a_damaged_shard_is_written_anew_and_the_others_stay(packed, empty):
    succeed("data", "pack", "digits", "out", *SMALL)
    paths = sorted((empty / "out").glob("*.tar"))
    blob = bytearray(paths[3].read_bytes())
    blob[1000] ^= 1
    paths[3].write_bytes(blob)
    paths[5].unlink()
    (empty / "out" / ".train-000005.tar.unfinished").write_bytes(b"half")
    times = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    assert "8 of 10 shards" in succeed("data", "pack", "digits", "out", *SMALL).out
    assert contents("out") == contents(packed)
    changed = [path for path, before in times.items() if path.stat().st_mtime_ns != before]
    assert changed == [paths[3]]


def test_a_full_disk_leaves_no_half_shard(packed, empty):
    words = ["pack", "digits", "out", *SMALL]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    shards = json.loads((packed / "index.json").read_text())["shards"]
    room = max(shard["bytes"] for shard in shards) - 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
    try:
        outcome = call("data", *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert outcome.code == DISK
    (line,) = outcome.err
    assert "cannot be written: File too large" in line
    assert not list((empty / "out").glob(".*"))
    for path in (empty / "out").glob("t*-*"):
        assert path.read_bytes() == (packed / path.name).read_bytes()
    succeed("data", *words)
    assert contents("out") == contents(packed)


# --- mistakes

refused = partial(refuses, "data")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("pack digits", CONFIG, "--output: no folder given; ssl-lt data pack SOURCE OUT"),
        ("pack digitz out", CONFIG, "--data digitz: unknown"),
        ("pack digits out --format parquet", CONFIG, "--format"),
        ("pack digits out --images-per-shard 0", CONFIG, "--images-per-shard: 0 is below 1"),
        ("pack digits taken", CONFIG, "taken exists, is not empty and has no index.json"),
        ("pack digits taken/a", CONFIG, "taken/a is a file, not a folder"),
        (
            "pack folder:flat packed",
            CONFIG,
            "packed: was packed with another source",
        ),
        (
            "pack digits packed --images-per-shard 9",
            CONFIG,
            "with another images_per_shard",
        ),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_is_written(empty, words, code, says):
    (empty / "taken").mkdir()
    (empty / "taken" / "a").write_text("mine")
    (empty / "flat").mkdir()
    Image.new("RGB", (5, 5)).save(empty / "flat" / "a.png")
    if "packed" in words:
        succeed("data", "pack", "digits", "packed", "--images-per-shard", "1000")
    refused(empty, words, code, says)


def test_what_is_no_image_is_named_and_goes_no_further(empty):
    (empty / "flat").mkdir()
    Image.new("RGB", (5, 5)).save(empty / "flat" / "a.png")
    (empty / "flat" / "b.png").write_bytes(b"nothing")
    outcome = call("data", "pack", "folder:flat", "out")
    assert (outcome.code, outcome.err) == (DATA, ["error: folder:flat: b.png: not an image"])
    assert [path.name for path in (empty / "out").iterdir()] == ["index.json"]


def test_a_damaged_index_is_named(empty):
    succeed("data", "pack", "digits", "out")
    (empty / "out" / "index.json").write_text('{"shards": [{"file": 1}]}')
    refused(empty, "pack digits out", DATA, "index.json: cannot be read as an index of shards")


def test_other_pictures_are_refused(empty):
    (empty / "flat").mkdir()
    Image.new("RGB", (5, 5)).save(empty / "flat" / "a.png")
    succeed("data", "pack", "folder:flat", "out")
    Image.new("RGB", (50, 5)).save(empty / "flat" / "a.png")
    refused(empty, "pack folder:flat out", CONFIG, "out: was packed with another contents")


def test_images_of_other_formats_are_packed_and_read_again(empty):
    for number, kind in enumerate(("JPEG2000", "WEBP", "TGA", "PPM")):
        (empty / "photos" / "ant").mkdir(parents=True, exist_ok=True)
        suffix = {"JPEG2000": "jp2"}.get(kind, kind.lower())
        Image.new("RGB", (8, 8)).save(empty / "photos" / "ant" / f"{number}.{suffix}", kind)
    succeed("data", "pack", "folder:photos", "out")
    assert len(open_source("wds:out", SourceOptions(label_column="none")).train) == 4
    refused = call("data", "pack", "folder:photos", "b", "--value-range", "0", "9")
    assert refused.code == CONFIG
    assert refused.err[0].startswith("error: --value-range: images stay the bytes they are")
