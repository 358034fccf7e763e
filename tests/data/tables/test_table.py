"""What every table of images does alike: the same images as pixels, files, parquet and shards."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ssl_lt.data.images.decode import read_bytes
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_complete
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.parquet import open_parquet
from ssl_lt.data.tables.table import ImageTable, PixelTable, all_rows

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
LABELS = [0, 1, 1, 0, 1]
KINDS = ("pixels", "files", "parquet", "shards")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def tables(tmp_path) -> dict[str, ImageTable]:
    labels = torch.tensor(LABELS)
    blobs = [png(pixels) for pixels in IMAGES]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for row, blob in enumerate(blobs):
            (tmp_path / f"{row}.png").write_bytes(blob)
            for name, content in ((f"{row}.png", blob), (f"{row}.cls", b"%d" % LABELS[row])):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    images = pa.array([{"bytes": blob} for blob in blobs], pa.struct([("bytes", pa.binary())]))
    pq.write_table(
        pa.table({"image": images, "label": LABELS}), tmp_path / "a.parquet", row_group_size=2
    )
    return {
        "pixels": PixelTable(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous(), labels),
        "files": FileTable(tmp_path, np.array([b"%d.png" % row for row in range(5)]), labels),
        "parquet": open_parquet(
            [tmp_path / "a.parquet"], image_column="image", label_column="label", side=4
        )[0],
        "shards": open_complete(
            f"wds:{tmp_path}/a.tar", SourceOptions(shard_cache=tmp_path / "cache")
        ).train,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_images_labels_and_rows(tables, kind):
    table = tables[kind]
    assert len(table) == 5
    assert table.labels.tolist() == LABELS
    taken = table.take(np.array([4, 0, 4]))
    assert taken.labels.tolist() == [1, 0, 1]
    for some, rows in ((table, range(5)), (taken, (4, 0, 4)), (all_rows(table), range(5))):
        for place, row in enumerate(rows):
            assert np.array_equal(np.asarray(some.read(place)), IMAGES[row])
            opened = some.open(place)
            assert (opened.height, opened.width) == (4, 4)
            blob = read_bytes(some.encoded(place))
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(blob))), IMAGES[row])
    assert len({table.name(row) for row in range(5)}) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_labels_can_be_replaced_and_workers_get_a_copy(tables, kind):
    table = tables[kind]
    other = table.with_labels(torch.full((5,), 7))
    assert type(other) is type(table)
    assert other.labels.tolist() == [7] * 5
    assert other.fingerprint() != table.fingerprint()
    copy = pickle.loads(pickle.dumps(table))
    assert copy.fingerprint() == table.fingerprint()
    assert np.array_equal(np.asarray(copy.read(2)), IMAGES[2])


def test_digests_are_those_that_checkpoints_and_splits_hold(tables):
    labels = np.array(LABELS, "<i8").tobytes()
    plain = hashlib.sha256(labels).hexdigest()
    for kind in ("pixels", "parquet"):
        assert tables[kind].fingerprint() == plain
    assert tables["parquet"].content_sha256() == plain
    pixels = IMAGES.transpose(0, 3, 1, 2).tobytes()
    assert tables["pixels"].content_sha256() == (
        hashlib.sha256(plain.encode() + pixels).hexdigest()
    )
    names = b"\0".join(b"%d.png" % row for row in range(5))
    of_files = hashlib.sha256(labels + names).hexdigest()
    sizes = np.array([len(png(image)) for image in IMAGES], "<i8").tobytes()
    assert tables["files"].fingerprint() == of_files
    assert tables["files"].content_sha256() == (
        hashlib.sha256(of_files.encode() + sizes).hexdigest()
    )
    shards = tables["shards"]
    ids = shards.ids.astype("<i8").tobytes()
    assert shards.fingerprint() == hashlib.sha256(labels + ids).hexdigest()
    assert shards.content_sha256() == hashlib.sha256(shards.fingerprint().encode()).hexdigest()
