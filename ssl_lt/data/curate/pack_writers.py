"""Shards of a packed data set: parquet as the hub has it, or tar as WebDataset reads it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ssl_lt.core.errors import DataError
from ssl_lt.data.tables.stored import StoredImage

# Rows of a group, which is what a reader fetches at once: as many as the hub's image sets have.
_GROUP = 100
# What WebDataset knows pictures by, where it is not Pillow's name of the format.
_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a shard.

    Attributes:
        row: of its part; its id.
        image: as the source keeps it.
        label: class number, -1 where unknown.
    """

    row: int
    image: StoredImage
    label: int

    @property
    def key(self) -> str:
        """The id as text, so long that order by name is order by row."""
        return f"{self.row:09d}"


def write_parquet(path: Path, samples: Iterable[Sample], class_names: tuple[str, ...]) -> None:
    """Columns `image` (bytes and file name) and, with labels, `label`, typed for `datasets`.

    Raises:
        DataError: something that is no image; names it.
        OSError: it cannot be written.
    """
    schema = _schema(class_names)
    remaining = iter(samples)
    # Images are compressed already.
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="none") as writer:
        while group := list(islice(remaining, _GROUP)):
            columns: dict[str, list[Any]] = {"image": [_struct(sample) for sample in group]}
            if class_names:
                columns["label"] = [sample.label for sample in group]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=_GROUP)


def write_tar(path: Path, samples: Iterable[Sample], class_names: tuple[str, ...]) -> None:
    """Members KEY.jpg, or another format's suffix, and, with labels, KEY.cls with the number.

    Raises:
        DataError: something that is no image; names it.
        OSError: it cannot be written.
    """
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            blob = sample.image.encoded()
            members = {_suffix(blob, sample.image.name): blob}
            if class_names and sample.label >= 0:
                members["cls"] = str(sample.label).encode()
            for suffix, content in members.items():
                # Without time or owner: the same images are the same bytes.
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _struct(sample: Sample) -> dict[str, Any]:
    blob = sample.image.encoded()
    suffix = _suffix(blob, sample.image.name)
    path = sample.image.name if sample.image.is_file else f"{sample.key}.{suffix}"
    return {"bytes": blob, "path": path}


def _schema(class_names: tuple[str, ...]) -> pa.Schema:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [pa.field("image", image)]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if class_names:
        fields.append(pa.field("label", pa.int64()))
        features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    described = json.dumps({"info": {"features": features}})
    return pa.schema(fields, metadata={"huggingface": described})


def _suffix(blob: bytes, name: str) -> str:
    """Of the format that an image's first bytes say; the rest is not looked at."""
    try:
        with Image.open(io.BytesIO(blob)) as image:
            kind = str(image.format)
    # Pillow's readers raise nearly anything on damaged bytes.
    except Exception as error:
        raise DataError(f"{name}: {'not an image' if blob else 'empty file'}") from error
    return _SUFFIXES.get(kind, kind.lower())
