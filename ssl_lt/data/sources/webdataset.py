"""`wds:URLS`: tar shards as WebDataset writes them, here or in an object store."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_lt.core.disk.urls import file_system, reason
from ssl_lt.core.errors import DataError
from ssl_lt.core.progress import track
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.remote.shards import (
    ShardCache,
    ShardFile,
    default_cache_folder,
    find_shards,
    open_shard,
)
from ssl_lt.data.remote.tar_index import (
    INDEX,
    INDEX_SUFFIX,
    LABEL_SUFFIX,
    Suffixes,
    TarIndex,
    index_tar,
    read_index,
    write_index,
)
from ssl_lt.data.sources.columns import NO_LABELS
from ssl_lt.data.sources.labels import check_one_label_each, number_classes, plain
from ssl_lt.data.sources.parts import HELD, LeftOut, find_parts, part_of, word_of_part
from ssl_lt.data.sources.source import Source, with_part
from ssl_lt.data.tables.shards import ShardTable


def open_wds(argument: str, options: SourceOptions) -> Source:
    """Lists the images of shards; see `find_shards` for how they are named.

    Where the names of some shards, or of their folders, say `train`, those that say another part
    are tested or validated on, see `find_parts`. A sample is an image and, as member `KEY.cls`, a
    number or a name: its class. Numbers get names where `ssl-lt data pack` left them.

    Args:
        argument: URLS of `wds:URLS`.
        options: with the cache, and the suffixes of image and label where they are others.

    Raises:
        ConfigError, DataError: as `find_shards`, `index_tar` and `open_shard` say; a sample without
            a label among others with one; a number that has no name.
    """
    name = f"wds:{argument}"
    files = find_shards(argument, source=name)
    cache = ShardCache(options.shard_cache or default_cache_folder(), options.shard_cache_mib)
    suffixes = Suffixes(options.image_column, options.label_column or LABEL_SUFFIX)
    trained, *others, unused = _parts(files)
    known = _class_names(files[0])
    class_names, table = _table(name, trained, cache, suffixes, known)
    no_labels = ""
    if suffixes.label != NO_LABELS:
        no_labels = f"no sample has a member KEY.{suffixes.label}; --label-column names another"
    source = Source(
        name,
        class_names,
        table,
        labels_from=f"the member KEY.{suffixes.label} of each sample" if class_names else no_labels,
        places={"train": f"{trained[0].name} and on"} if trained != files else {},
        left_out=tuple(LeftOut("shard", file.name, 1) for file in unused),
        notes=_notes(trained),
    )
    for part, shards in zip(("test", "validation"), others, strict=True):
        if shards and not class_names:
            opens = partial(_unlabelled, name, shards, cache, suffixes)
            source = replace(source, unlabelled={**source.unlabelled, part: opens})
        elif shards:
            names, table = _table(name, shards, cache, suffixes, known)
            place = f"{shards[0].name} and on"
            found = Source(f"{name}, {shards[0].name}", names, table)
            source = with_part(source, part, found, place=place)
    return source


def _parts(files: tuple[ShardFile, ...]) -> tuple[tuple[ShardFile, ...], ...]:
    """Training, test and validation shards, by words in their names or folders, and others."""
    words = _words_of_parts(files)
    parts = find_parts(sorted({word for word in words.values() if word}))
    if parts.train is None or not parts.held:
        return files, (), (), ()
    of_part = {word: "train" for word in words.values() if word and part_of(word) == "train"}
    of_part |= {name: part for part, name in parts.held.items()}
    found = [
        tuple(file for file in files if of_part.get(words[file] or "") == part)
        for part in ("train", "test", "validation")
    ]
    used = {file for those in found for file in those}
    return *found, tuple(file for file in files if file not in used)


def _words_of_parts(files: tuple[ShardFile, ...]) -> dict[ShardFile, str | None]:
    """By the name of each shard or, where they are in several folders, by that of its folder."""
    folders = {file: file.url.split("/")[-2] for file in files if "/" in file.url}
    are_apart = len({*folders.values()}) > 1
    return {
        file: word_of_part(file.name) or (word_of_part(folders[file]) if are_apart else None)
        for file in files
    }


def _notes(trained: tuple[ShardFile, ...]) -> tuple[str, ...]:
    """Shards for training that say to be of another part, as no shard says to be for training."""
    words = _words_of_parts(trained)
    held = [file for file in trained if part_of(words[file] or "") in HELD]
    if not held or len(held) == len(trained):
        return ()
    return (f"{held[0].name} is trained on like all others, as none says train in its name",)


def _table(
    name: str,
    files: tuple[ShardFile, ...],
    cache: ShardCache,
    suffixes: Suffixes,
    known: tuple[str, ...],
) -> tuple[tuple[str, ...], ShardTable]:
    shards = track(files, total=len(files), label=f"{name}: indexing shards")
    indices = [_index(file, cache, suffixes) for file in shards]
    lengths = [len(index) for index in indices]
    table = ShardTable(
        files,
        cache,
        np.repeat(np.arange(len(files), dtype=np.int32), lengths),
        np.concatenate([index.offsets for index in indices]),
        np.concatenate([index.sizes for index in indices]),
        np.concatenate([index.ids for index in indices]),
        torch.full((sum(lengths),), -1),
    )
    if suffixes.label == NO_LABELS:
        return (), table
    texts = np.concatenate([index.labels for index in indices])
    class_names, labels = _labels(name, table, texts, known, suffix=suffixes.label)
    return class_names, replace(table, labels=labels)


def _unlabelled(
    name: str, files: tuple[ShardFile, ...], cache: ShardCache, suffixes: Suffixes
) -> ShardTable:
    return _table(name, files, cache, replace(suffixes, label=NO_LABELS), ())[1]


def _index(file: ShardFile, cache: ShardCache, suffixes: Suffixes) -> TarIndex:
    """The index that was packed with a shard, or that was made before, or a new one."""
    if suffixes == Suffixes():
        packed = _read_beside(file, file.name + INDEX_SUFFIX)
        index = None if packed is None else read_index(packed, tar_bytes=file.bytes)
        if index is not None:
            return index
    kept = cache.file(file, str(suffixes)).with_suffix(".npz")
    with cache.lock(kept):  # the processes of a machine do not all do the same
        if kept.is_file():
            with kept.open("rb") as stored:
                index = read_index(stored, tar_bytes=file.bytes)
            if index is not None:
                return index
        try:
            index = index_tar(open_shard(file, cache), suffixes, name=file.url)
        except OSError as error:
            raise DataError(f"{file.url}: cannot be read: {error.strerror}") from error
        write_index(kept, index, tar_bytes=file.bytes)
    return index


def _labels(
    name: str, table: ShardTable, texts: NDArray[np.bytes_], known: tuple[str, ...], *, suffix: str
) -> tuple[tuple[str, ...], Tensor]:
    """Class names and (N,) labels; no names and -1 where no sample has a label."""
    missing = np.flatnonzero(texts == b"")
    if len(missing) == len(texts):
        return (), table.labels
    if len(missing):
        raise DataError(
            f"{name}: {table.name(missing[0])} has no label .{suffix}, as {len(missing) - 1} more "
            "(--label-column none takes all images without labels)"
        )
    different, number = np.unique(texts, return_inverse=True)
    try:
        decoded = [text.decode() for text in different]
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: a label .{suffix} is no text") from error
    of_text = dict(enumerate(np.unique(number, return_index=True)[1].tolist()))
    check_one_label_each(decoded, lambda text: f"{name}: {table.name(of_text[text])}")
    class_names, numbers = number_classes(decoded)
    labels = numbers[torch.from_numpy(number)]
    if not known:
        return class_names, labels
    if not all(text.isdigit() and int(text) < len(known) for text in class_names):
        raise DataError(
            f"{name}: class {class_names[-1]} has no name in {INDEX}, which has {len(known)}"
        )
    return known, torch.tensor([int(text) for text in class_names])[labels]


def _class_names(file: ShardFile) -> tuple[str, ...]:
    found = _read_beside(file, INDEX)
    if found is None:
        return ()
    try:
        return tuple(plain(str(name)) for name in json.load(found)["class_names"])
    except (ValueError, KeyError, TypeError):  # of someone else's making
        return ()


def _read_beside(file: ShardFile, name: str) -> IO[bytes] | None:
    """A small file in the folder of a shard, if it is there.

    Raises:
        DataError: the store fails.
    """
    filesystem, path = file_system(file.url, of=file.url)
    try:
        return io.BytesIO(filesystem.cat_file(f"{path.rpartition('/')[0]}/{name}"))
    # Packages for stores raise what they like; many stores say that a file may not be read where it
    # is not there.
    except Exception as error:
        if isinstance(error, OSError) or getattr(error, "status", None) in (401, 403):
            return None
        raise DataError(f"{file.url}: {name} beside it: {reason(error)}") from error
