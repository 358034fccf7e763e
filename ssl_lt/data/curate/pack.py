"""A source packed into tar shards, one after another: what was finished before a stop is kept.

`webdataset.ShardWriter` would write the same members, but under their final names as it goes: it
cannot tell a finished shard from one that was cut off, which is most of what this file does.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.files import file_sha256, sync_path, write_text_atomically
from ssl_lt.core.errors import ConfigError, DataError, DiskError
from ssl_lt.core.progress import track
from ssl_lt.data.images.decode import image_suffix, read_bytes
from ssl_lt.data.remote.tar_index import INDEX, INDEX_SUFFIX, Suffixes, index_tar, write_index
from ssl_lt.data.tables.table import ImageTable

# Before its new name a shard is hidden, and so is the index while it is written.
_UNFINISHED = (".*.unfinished", f".{INDEX}.*", f".*{INDEX_SUFFIX}.*")


@dataclass(frozen=True)
class Shard:
    """A tar file of `samples` consecutive images of a part, from row `start` on."""

    file: str
    part: str
    start: int
    samples: int
    bytes: int = 0  # of the file, as its SHA-256; before it is written, there are none
    sha256: str = ""


@dataclass(frozen=True)
class ShardLayout:
    """What a packed folder will hold; equal layouts of the same images give equal bytes.

    Attributes:
        header: what the index says of all shards; a folder with another header is not continued.
        shards: of all parts, in order.
    """

    header: Mapping[str, Any]
    shards: tuple[Shard, ...]


def plan_shards(
    parts: Mapping[str, ImageTable], *, source: str, class_names: tuple[str, ...], size: int
) -> ShardLayout:
    """Cuts "train", and "test" and "validation" if there are any, into shards of `size` images."""
    shards = [
        Shard(f"{part}-{number:06d}.tar", part, start, min(size, len(table) - start))
        for part, table in parts.items()
        for number, start in enumerate(range(0, len(table), size))
    ]
    header = {
        "format": 1,
        "container": "tar",
        "source": source,
        "class_names": list(class_names),
        "contents": {part: table.content_sha256() for part, table in parts.items()},
        "images_per_shard": size,
    }
    return ShardLayout(header, tuple(shards))


def open_output(folder: Path, layout: ShardLayout) -> dict[str, Shard]:
    """Makes the folder, or finds what is finished in it; unfinished files are removed.

    Returns:
        File name -> shard, of those whose size and SHA-256 are still right.

    Raises:
        ConfigError: there is something else, or it was packed from other images or otherwise.
        DataError: its index cannot be read.
        DiskError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{folder} is a file, not a folder") from error
    except OSError as error:
        raise DiskError(f"{folder}: cannot be made: {error.strerror}") from error
    if not any(folder.iterdir()):
        _write_index(folder, layout, {})
        return {}
    if not (folder / INDEX).is_file():
        raise ConfigError(f"{folder} exists, is not empty and has no {INDEX}: nothing is packed")
    shards = _read_index(folder, layout.header)
    for pattern in _UNFINISHED:
        for leftover in folder.glob(pattern):
            leftover.unlink()
    return {shard.file: shard for shard in shards if _is_right(folder / shard.file, shard)}


def pack(
    parts: Mapping[str, ImageTable], layout: ShardLayout, folder: Path, finished: dict[str, Shard]
) -> dict[str, Shard]:
    """Writes the shards that are missing; each appears whole, and is then in the index.

    Members are KEY.jpg, or another format's suffix, and, with labels, KEY.cls with the number.

    Returns:
        File name -> shard, all of the layout.

    Raises:
        DataError: an image that cannot be read, or is none; names it.
        DiskError: the disk is full or may not be written; no half shard stays.
    """
    done, source = dict(finished), layout.header["source"]
    for shard in layout.shards:
        if shard.file not in done:
            try:
                done[shard.file] = _write(parts[shard.part], shard, folder)
            except DataError as error:
                text = str(error).removeprefix(f"{source}: ")
                raise DataError(f"{source}: {text}") from error
            _write_index(folder, layout, done)
    return done


def digest(shards: Mapping[str, Shard]) -> str:
    """SHA-256 of the names and digests of all shards: names the packed data."""
    lines = "".join(f"{name} {shards[name].sha256}\n" for name in sorted(shards))
    return hashlib.sha256(lines.encode()).hexdigest()


def _write(table: ImageTable, shard: Shard, folder: Path) -> Shard:
    unfinished = folder / f".{shard.file}.unfinished"
    try:
        _write_tar(unfinished, table, shard)
        sync_path(unfinished)
        size, sha256 = unfinished.stat().st_size, file_sha256(unfinished)
        with unfinished.open("rb") as file:
            index = index_tar(file, Suffixes(), name=shard.file)
        # Before its shard: where there is a shard, there is its index.
        write_index(folder / (shard.file + INDEX_SUFFIX), index, tar_bytes=size)
        unfinished.rename(folder / shard.file)
        sync_path(folder)
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(f"{folder / shard.file}: cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
    return replace(shard, bytes=size, sha256=sha256)


def _write_tar(path: Path, table: ImageTable, shard: Shard) -> None:
    rows = range(shard.start, shard.start + shard.samples)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in track(rows, total=len(rows), label=f"packing {shard.file}"):
            blob, label = read_bytes(table.encoded(row)), int(table.labels[row])
            members = {image_suffix(blob, name=table.name(row)): blob}
            if label >= 0:
                members["cls"] = str(label).encode()
            for suffix, content in members.items():
                # Without time or owner: the same images are the same bytes.
                info = tarfile.TarInfo(f"{row:09d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _write_index(folder: Path, layout: ShardLayout, done: Mapping[str, Shard]) -> None:
    shards = [asdict(done[shard.file]) for shard in layout.shards if shard.file in done]
    is_whole = len(shards) == len(layout.shards)
    index = {**layout.header, "sha256": digest(done) if is_whole else None, "shards": shards}
    write_text_atomically(folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _read_index(folder: Path, header: Mapping[str, Any]) -> list[Shard]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        shards = [Shard(**fields) for fields in index["shards"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder / INDEX}: cannot be read as an index of shards: {error}"
        ) from error
    for name, value in header.items():
        if index.get(name) != value:
            raise ConfigError(f"{folder}: was packed with another {name}: give another folder")
    return shards


def _is_right(path: Path, shard: Shard) -> bool:
    return path.is_file() and file_sha256(path) == shard.sha256
