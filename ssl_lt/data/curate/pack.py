"""A source packed into shards, one after another: what was finished before a stop is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ssl_lt.core.errors import ConfigError, DataError, DiskError
from ssl_lt.core.files import file_sha256, sync_path, write_text_atomically
from ssl_lt.data.curate.pack_writers import Sample, write_parquet, write_tar
from ssl_lt.data.remote.tar_index import INDEX_SUFFIX, Suffixes, index_tar, write_index
from ssl_lt.data.tables.content import stored_sha256
from ssl_lt.data.tables.stored import stored_images
from ssl_lt.data.tables.table import ImageTable

INDEX, CARD = "index.json", "README.md"
FORMAT = 1

_WRITERS = {"parquet": write_parquet, "tar": write_tar}
# Before its new name a shard is hidden, and so is the index while it is written.
_UNFINISHED = (".*.unfinished", f".{INDEX}.*", f".{CARD}.*", f".*{INDEX_SUFFIX}.*")


@dataclass(frozen=True)
class Shard:
    """A file of consecutive rows.

    Attributes:
        file: its name.
        part: "train", "test" or "validation".
        start: its first row.
        samples: how many rows.
        bytes: size of the file; 0 before it is written.
        sha256: of the file; empty before it is written.
    """

    file: str
    part: str
    start: int
    samples: int
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Plan:
    """What a packed folder holds; equal plans of the same images give equal bytes.

    Attributes:
        container: "parquet" or "tar".
        source: name of the data.
        class_names: (C,); empty without labels.
        contents: part -> what tells its images from others.
        images_per_shard: of all but the last of a part.
        shards: of all parts, in order.
    """

    container: str
    source: str
    class_names: tuple[str, ...]
    contents: Mapping[str, str]
    images_per_shard: int
    shards: tuple[Shard, ...]


def plan_shards(
    parts: Mapping[str, ImageTable],
    *,
    container: str,
    source: str,
    class_names: tuple[str, ...],
    images_per_shard: int,
) -> Plan:
    """Cuts each part into shards of as many images, the last of them smaller.

    Args:
        parts: "train", and "test" and "validation" where there are any.
        container: "parquet" or "tar".
        source: name of the data.
        class_names: (C,); empty without labels.
        images_per_shard: at least 1.
    """
    shards = []
    for part, table in parts.items():
        starts = range(0, len(table), images_per_shard)
        for number, start in enumerate(starts):
            name = f"{part}-{number:06d}.tar"
            if container == "parquet":
                name = f"{part}-{number:05d}-of-{len(starts):05d}.parquet"
            size = min(images_per_shard, len(table) - start)
            shards.append(Shard(name, part, start, size))
    contents = {part: stored_sha256(table) for part, table in parts.items()}
    return Plan(container, source, class_names, contents, images_per_shard, tuple(shards))


def open_output(folder: Path, plan: Plan) -> dict[str, Shard]:
    """Makes the folder, or finds what is finished in it; unfinished files are removed.

    Returns:
        File name -> shard, of those whose size and SHA-256 are still right.

    Raises:
        ConfigError: there is something else, or it was packed from other images or otherwise.
        DataError: its index cannot be read.
        DiskError: it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskError(f"{folder}: cannot be made: {error.strerror}") from error
        _write_index(folder, plan, {})
        return {}
    if not (folder / INDEX).is_file():
        raise ConfigError(f"{folder} exists, is not empty and has no {INDEX}: nothing is packed")
    finished = _read_index(folder / INDEX, plan)
    for pattern in _UNFINISHED:
        for leftover in folder.glob(pattern):
            leftover.unlink()
    return {name: shard for name, shard in finished.items() if _is_right(folder / name, shard)}


def pack(
    parts: Mapping[str, ImageTable],
    plan: Plan,
    folder: Path,
    *,
    finished: Mapping[str, Shard],
    watch: Callable[[Shard, Iterable[Sample]], Iterable[Sample]],
) -> dict[str, Shard]:
    """Writes the shards that are missing; each appears whole, and is then in the index.

    Args:
        parts: of the plan.
        plan: see `plan_shards`.
        folder: made by `open_output`.
        finished: what `open_output` found.
        watch: hands on the samples of a shard, and sees how far it is.

    Returns:
        File name -> shard, all of the plan.

    Raises:
        DataError: an image that cannot be read, or is none; names it.
        DiskError: the disk is full or may not be written; no half shard stays.
    """
    done = dict(finished)
    for shard in plan.shards:
        if shard.file not in done:
            samples = watch(shard, _samples(parts[shard.part], shard))
            done[shard.file] = _write(samples, shard, plan, folder)
            _write_index(folder, plan, done)
    if plan.container == "parquet":
        write_text_atomically(folder / CARD, _card(plan))
    return done


def digest(shards: Mapping[str, Shard]) -> str:
    """SHA-256 of the names and digests of all shards: names the packed data."""
    lines = "".join(f"{name} {shards[name].sha256}\n" for name in sorted(shards))
    return hashlib.sha256(lines.encode()).hexdigest()


def _samples(table: ImageTable, shard: Shard) -> Iterator[Sample]:
    rows = range(shard.start, shard.start + shard.samples)
    images = stored_images(table, start=rows.start, stop=rows.stop)
    labels = table.labels[rows.start : rows.stop].tolist()
    return map(Sample, rows, images, labels)


def _write(samples: Iterable[Sample], shard: Shard, plan: Plan, folder: Path) -> Shard:
    unfinished = folder / f".{shard.file}.unfinished"
    try:
        _WRITERS[plan.container](unfinished, samples, plan.class_names)
        sync_path(unfinished)
        size, sha256 = unfinished.stat().st_size, file_sha256(unfinished)
        if plan.container == "tar":  # before its shard: where there is a shard, there is its index
            with unfinished.open("rb") as file:
                index = index_tar(file, Suffixes(), name=shard.file)
            write_index(folder / (shard.file + INDEX_SUFFIX), index, tar_bytes=size)
        unfinished.rename(folder / shard.file)
        sync_path(folder)
    except DataError as error:
        has_source = str(error).startswith(plan.source)
        raise DataError(f"{'' if has_source else plan.source + ': '}{error}") from error
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(f"{folder / shard.file}: cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
    return replace(shard, bytes=size, sha256=sha256)


def _write_index(folder: Path, plan: Plan, done: Mapping[str, Shard]) -> None:
    shards = [asdict(done[shard.file]) for shard in plan.shards if shard.file in done]
    is_whole = len(shards) == len(plan.shards)
    index = {**_header(plan), "sha256": digest(done) if is_whole else None, "shards": shards}
    write_text_atomically(folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _header(plan: Plan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "container": plan.container,
        "source": plan.source,
        "class_names": list(plan.class_names),
        "contents": dict(plan.contents),
        "images_per_shard": plan.images_per_shard,
    }


def _read_index(path: Path, plan: Plan) -> dict[str, Shard]:
    """Finished shards by file name, for a plan that must be the same."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        shards = [Shard(**fields) for fields in index["shards"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as an index of shards: {error}") from error
    for name, value in _header(plan).items():
        if index.get(name) != value:
            shown = (
                ("other", "others") if isinstance(value, list | dict) else (index.get(name), value)
            )
            raise ConfigError(
                f"{path.parent}: was packed with {name} {shown[0]}, now it is {shown[1]}: give "
                "another folder"
            )
    planned = {(shard.file, shard.start, shard.samples) for shard in plan.shards}
    return {s.file: s for s in shards if (s.file, s.start, s.samples) in planned}


def _is_right(path: Path, shard: Shard) -> bool:
    return (
        path.is_file() and path.stat().st_size == shard.bytes and file_sha256(path) == shard.sha256
    )


def _card(plan: Plan) -> str:
    """Which files are which part, as the hub's libraries read it."""
    parts = dict.fromkeys(shard.part for shard in plan.shards)
    files = "".join(f"  - split: {part}\n    path: {part}-*.parquet\n" for part in parts)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
