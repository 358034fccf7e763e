"""Files made to do harm are refused, fast, and nothing in them runs."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import pickle
import tarfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import ssl_lt
from ssl_lt.core.disk.yaml_file import read_yaml
from ssl_lt.core.errors import CheckpointError, ConfigError, DataError
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_source
from ssl_lt.data.splits.split import read_index_list, read_split
from ssl_lt.data.tables.parquet import open_parquet
from ssl_lt.evaluate.picture_records import read_pictures
from ssl_lt.models.weights import load_backbone_weights
from ssl_lt.report.records.results import read_results
from tests.faults.hostile import Sentinel, bomb_png

SOURCES = sorted(Path(ssl_lt.__file__).parent.rglob("*.py"))

# --- nothing is unpickled, ever

UNPICKLERS = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
# What makes a reader that could unpickle one that cannot.
SAFE = {
    "torch.load": ("weights_only", "True"),
    "np.load": ("allow_pickle", "False"),
    "np.save": ("allow_pickle", "False"),
    "yaml.load": ("Loader", "_Loader"),
}
NEVER = {
    "eval", "exec", "torch.hub.load", "torch.jit.load", "torch.save", "yaml.unsafe_load",
    "yaml.full_load", "np.lib.format.read_array", "torch.serialization.add_safe_globals",
}  # fmt: skip


def offences(text):
    """Every use in a module of what could run a file's content."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (f"imports {n}" for n in names if n.split(".")[0] in UNPICKLERS)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in NEVER:
                yield f"calls {name}"
            elif name in SAFE and given.get(SAFE[name][0]) != SAFE[name][1]:
                yield f"calls {name} without {'='.join(SAFE[name])}"


def test_no_module_reads_anything_that_could_run():
    found = {str(path): bad for path in SOURCES if (bad := list(offences(path.read_text("utf-8"))))}
    assert found == {}
    assert len(SOURCES) > 100


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p)", "import pickle",
        "np.load(p, allow_pickle=True)", "yaml.load(t, Loader=yaml.Loader)", "eval(t)",
        "from joblib import load", "yaml.unsafe_load(t)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(line):
    assert list(offences(line))


@pytest.fixture
def sentinel(tmp_path):
    """Unpickled by anything, it makes a file; the test fails if it is there in the end."""
    sentinel = Sentinel(tmp_path / "it ran")
    yield sentinel
    assert not sentinel.path.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin", "w"])
@pytest.mark.parametrize("writer", [pickle.dump, torch.save])
def test_weights_that_are_a_program(tmp_path, sentinel, name, writer):
    with (tmp_path / name).open("wb") as file:
        writer({"state_dict": {"weight": torch.ones(2, 2), "bias": sentinel}}, file)
    backbone = torch.nn.Linear(2, 2)
    before = backbone.weight.clone()
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read as weights"):
        load_backbone_weights(backbone, tmp_path / name)
    assert torch.equal(backbone.weight, before)


def test_a_list_of_rows_that_is_a_program(tmp_path, sentinel):
    np.save(tmp_path / "rows.npy", np.array([sentinel], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"rows\.npy: cannot be read as a list of rows"):
        read_index_list(tmp_path / "rows.npy")


def test_lists_of_rows_that_are_none(tmp_path):
    """Sizes are those of the file, whatever its header says."""
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"\0" * 64)
    np.savez(tmp_path / "archive.npz", rows=np.arange(3))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "large.txt").write_text(f"{2**70}\n")
    for name in ("huge.npy", "archive.npy", "empty.npy", "large.txt"):
        with pytest.raises(DataError, match=f"{name}: ") as caught:
            read_index_list(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_configuration_that_is_a_program(tmp_path, sentinel):
    call = "!!python/object/apply:pathlib.Path.touch"
    path = f"!!python/object/apply:pathlib.Path ['{sentinel.path}']"
    (tmp_path / "c.yaml").write_text(f"seed: {call}\n  - {path}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml, line \d: could not determine a constructor"):
        read_yaml(tmp_path / "c.yaml")


def test_an_image_that_is_a_program(tmp_path, sentinel):
    packed(tmp_path / "a.parquet", [pickle.dumps(sentinel)])
    with pytest.raises(DataError, match=r"a\.parquet: row 0 of the set: not an image"):
        decode(tmp_path / "a.parquet")


def test_a_cifar_batch_that_is_a_program(tmp_path, sentinel):
    """Published as pickles: read only where each file has the published MD5."""
    for name in ("batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        path = tmp_path / "cifar-10-batches-py" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(sentinel))
    with pytest.raises(
        DataError, match=r"data_batch_1: MD5 [0-9a-f]{32}, expected c99cafc152244af"
    ):
        open_source("cifar10", SourceOptions(data_root=tmp_path))


# --- images that would fill the memory


def packed(path, blobs):
    images = pa.array([{"bytes": blob} for blob in blobs], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"img": images, "label": pa.array([0] * len(blobs))}), path)


def decode(path):
    table, _ = open_parquet([path], image_column="img", label_column="label", side=32)
    return table.take(np.arange(len(table)))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_460, 20_000, 2**31 - 1])
@pytest.mark.parametrize("place", ["folder", "parquet"])
def test_a_decompression_bomb_is_named_and_never_decoded(tmp_path, place, side):
    started = time.monotonic()
    tracemalloc.start()
    if place == "folder":
        (tmp_path / "bomb.png").write_bytes(bomb_png(side))
        table = open_source(f"folder:{tmp_path}", SourceOptions()).train
        with pytest.raises(DataError, match=r"bomb\.png: .*pixels"):
            table.read(0)
    else:
        packed(tmp_path / "a.parquet", [bomb_png(side)])
        with pytest.raises(DataError, match=r"a\.parquet: row 0 of the set: .*pixels"):
            decode(tmp_path / "a.parquet")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert time.monotonic() - started < 10


def test_a_packed_image_without_pixels_does_not_end_the_process(tmp_path):
    """Torchvision's decoder dies of this one."""
    packed(tmp_path / "a.parquet", [bomb_png(32)])
    with pytest.raises(DataError, match="row 0 of the set: cannot be decoded"):
        decode(tmp_path / "a.parquet")


def test_a_text_in_an_image_that_would_fill_the_memory(tmp_path):
    """A compressed comment of 70 MB in 70 kB."""
    from PIL.PngImagePlugin import PngInfo

    comment = PngInfo()
    comment.add_text("k", "x" * 70_000_000, zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=comment)
    table = open_source(f"folder:{tmp_path}", SourceOptions()).train
    with pytest.raises(DataError, match=r"a\.png: cannot be decoded: Decompressed data too large"):
        table.read(0)


# --- archives


def archive(path, name, *, link=""):
    """A tar with one member, a file or a link."""
    member = tarfile.TarInfo(name)
    content = b"" if link else b"hello"
    member.size, member.type = len(content), tarfile.SYMTYPE if link else tarfile.REGTYPE
    member.linkname = link
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_an_archive_with_another_digest_is_never_opened(tmp_path):
    archive(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py/data_batch_1")
    with pytest.raises(
        DataError, match=r"cifar-10-python\.tar\.gz: MD5 [0-9a-f]{32}, expected c58f30108f718f9"
    ):
        open_source("cifar10", SourceOptions(data_root=tmp_path, download=True))
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]


@pytest.mark.parametrize(
    ("name", "link"),
    [("../../escaped", ""), ("/tmp/ssl-lt-escaped", ""), ("cifar-10-batches-py", "/etc")],
)
def test_an_archive_that_leaves_its_folder_is_refused(tmp_path, monkeypatch, name, link):
    from torchvision.datasets import CIFAR10

    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    digest = archive(root / CIFAR10.filename, name, link=link)
    monkeypatch.setattr(CIFAR10, "tgz_md5", digest)  # as if it were the published one
    with pytest.raises(DataError):
        open_source("cifar10", SourceOptions(data_root=root, download=True))
    assert [path.name for path in root.iterdir()] == [CIFAR10.filename]
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "root", CIFAR10.filename]
    assert not Path("/tmp/ssl-lt-escaped").exists()


# --- JSON


BRACKETS = "[" * 200_000


@pytest.mark.parametrize("read", [read_split, read_results])
@pytest.mark.parametrize("text", [BRACKETS, '{"a":' * 200_000, "\0", "nan", "{}", "[]", '"x"'])
def test_json_that_is_none_of_ours(tmp_path, read, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json: ") as caught:
        read(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_a_map_that_is_none_of_ours(tmp_path):
    (tmp_path / "map.json").write_text(BRACKETS)
    with pytest.raises(DataError, match=r"map\.json: damaged"):
        read_pictures(tmp_path, num_classes=2)


# --- weights without a digest: what can be known of them is


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(0)
    save_file({name: t.detach() for name, t in network().state_dict().items()}, path)
    return path


def network():
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_exported_weights_cut_at_any_length_are_refused(weights, data):
    whole = weights.read_bytes()
    cut = weights.with_name("cut.safetensors")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    backbone = network()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: cannot be read as weights"):
        load_backbone_weights(backbone, cut)
    assert all(torch.equal(v, before[name]) for name, v in backbone.state_dict().items())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_exported_weights_with_any_header_are_read_or_refused(weights, data):
    """No length, offset or type in a header makes the reader leave the file."""
    whole = bytearray(weights.read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    changed = weights.with_name("changed.safetensors")
    changed.write_bytes(whole)
    error = None
    try:
        load_backbone_weights(network(), changed)
    except CheckpointError as refusal:
        error = str(refusal)
    # Anything else that is raised fails the test.
    assert error is None or error.startswith(str(changed))


def test_the_reader_of_split_files_refuses_any_cut(tmp_path):
    fields = {"format": 1, "indices": list(range(50))}
    text = json.dumps(fields)
    for length in range(len(text)):
        (tmp_path / "split.json").write_text(text[:length])
        with pytest.raises(DataError, match=r"split\.json: cannot be read as a split"):
            read_split(tmp_path / "split.json")
