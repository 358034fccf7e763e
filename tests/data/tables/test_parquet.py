import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ssl_lt.core.errors import DataError
from ssl_lt.data.tables.parquet import open_parquet


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)


def write(path, blobs, labels):
    images = [{"bytes": blob, "path": None} for blob in blobs]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"img": pa.array(images, kind), "label": pa.array(labels, pa.int64())})
    pq.write_table(table, path, row_group_size=3)
    return path


def opened(*files):
    return open_parquet(files, image_column="img", label_column="label", side=8)


def test_rows_across_shards_and_row_groups_come_as_asked(tmp_path, pixels):
    blobs = [encoded(image) for image in pixels]
    first = write(tmp_path / "a.parquet", blobs[:7], [0, 1, 2, 0, 1, 2, 0])
    second = write(tmp_path / "b.parquet", blobs[7:], [1, 2, 0])
    table, names = opened(first, second)
    assert names == ("0", "1", "2")
    assert len(table) == 10
    rows = np.array([9, 0, 6, 7, 2, 6])
    taken = table.take(rows)
    want = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2)
    assert torch.equal(taken.pixels, want)
    assert taken.labels.tolist() == [0, 0, 0, 1, 2, 0]


def test_only_the_rows_taken_are_decoded(tmp_path, pixels):
    table, _ = opened(write(tmp_path / "a.parquet", [encoded(pixels[0]), b"broken"], [0, 1]))
    assert len(table.take(np.array([0]))) == 1
    with pytest.raises(DataError, match=r"a\.parquet: row 1 of the set: not an image"):
        table.take(np.array([1]))


def test_bad_files_are_named(tmp_path, pixels):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as parquet"):
        opened(tmp_path / "a.parquet")
    large = encoded(np.zeros((9, 8, 3), dtype=np.uint8))
    table, _ = opened(write(tmp_path / "b.parquet", [large], [0]))
    with pytest.raises(DataError, match=r"is 8 x 9 pixels, expected 8 x 8"):
        table.take(np.array([0]))
    with pytest.raises(DataError, match="row 1 has label -1"):
        opened(write(tmp_path / "c.parquet", [encoded(pixels[0])] * 2, [0, -1]))
    for empty in (b"", None):
        table, _ = opened(write(tmp_path / "d.parquet", [empty], [0]))
        with pytest.raises(DataError, match="row 0 of the set: empty file"):
            table.take(np.array([0]))
