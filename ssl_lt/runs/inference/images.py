"""Which images: any source of `--data`, one file, a folder of images, or paths from stdin."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.disk.files import exists
from ssl_lt.core.errors import ConfigError, DataError, short_path, shortened
from ssl_lt.core.options import option
from ssl_lt.data.images.decode import Decoding
from ssl_lt.data.images.listing import list_images
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import SOURCES, Source, open_complete
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.table import ImageTable

STDIN = "-"
Part = Literal["auto", "train", "validation", "test"]


@dataclass(frozen=True)
class ImageOptions:
    """Which images, and how they are read."""

    data: str = option("", group="images")
    """Images: whatever --data takes elsewhere (folder:PATH, csv:FILE, hf:NAME, cifar100 ...), an
    image file, a folder of images without labels, or - for paths on standard input."""
    part: Part = option("auto", group="images")
    """Part of a source that has several. auto: its test images, where it has some of its own,
    otherwise the training images, which are all images where there are no parts."""
    data_root: str | None = option(None, page="all", group="images")
    """Folder that holds the data, as in training. Default: data/; for csv: and list: the folder of
    that file."""
    download: bool = option(default=False, page="all", group="images")
    """Download CIFAR into the data root if it is not there."""
    image_column: str | None = option(None, page="all", group="images")
    """Column of csv: or hf: with the images, or suffix of the images in wds:. Default: found by its
    name."""
    label_column: str | None = option(None, page="all", group="images")
    """Column with the labels; none: the data is read without any."""
    split_column: str | None = option(None, page="all", group="images")
    """Column of csv:, or field of the images in coco:, that says train, val or test of each image;
    none: there are no parts. Default: found by its name."""
    crop_boxes: bool = option(default=False, page="all", group="images")
    """Take each box of coco: for an image of its own."""
    crop_margin: float = option(0.0, page="all", group="images")
    """What --crop-boxes keeps around a box on every side, over the length of that side."""
    value_range: tuple[float, ...] = option((), page="all", group="images")
    """Two values, LOW HIGH, that become 0 and 255. Default: those of training."""
    max_image_mpix: int | None = option(None, page="all", group="images")
    """Size limit of an image in millions of pixels (0 = no limit). Default: that of training."""
    shard_cache: Path | None = option(None, page="all", group="images")
    """Folder for the index of each wds: shard, and for copies. Default: ~/.cache/ssl_lt."""
    batch_size: int = option(256, page="all", group="images")
    """Images a forward pass; what is done is on the disk after each."""
    num_workers: int = option(4, page="all", group="images")
    """Worker processes that decode image files (0 = the main process decodes)."""
    worker_timeout: int = option(Workers.timeout_seconds, page="all", group="images")
    """Seconds to wait for a batch from a worker process (0 = no limit)."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that nothing could be done with."""
        check_at_least(self, {"batch_size": 1, "num_workers": 0, "worker_timeout": 0})
        _ = self.of(self.data or STDIN)

    def of(self, source: str) -> SourceOptions:
        """What opens another source in the same way."""
        known = {f.name for f in fields(ImageOptions)} & {f.name for f in fields(SourceOptions)}
        values: dict[str, Any] = {name: getattr(self, name) for name in known}
        return SourceOptions(**{**values, "data": source})

    @property
    def workers(self) -> Workers:
        """Who decodes."""
        return Workers(self.num_workers, self.worker_timeout)


@dataclass(frozen=True)
class NamedImages:
    """What there is to look at.

    Attributes:
        table: the images, with labels where there are any.
        what: it is, for people.
        class_names: of the labels; empty where there are none.
        left_out: files of a folder that are no images, for people.
    """

    table: ImageTable
    what: str
    class_names: tuple[str, ...] = ()
    left_out: str = ""


def find_images(
    options: ImageOptions, decoding: Decoding, *, beside: Sequence[str] = ()
) -> NamedImages:
    """The images that `--data` names.

    Args:
        options: the flags.
        decoding: how files are decoded, unless the flags say otherwise.
        beside: other sources that the flags may be for.

    Raises:
        ConfigError: nothing is named, or an unknown source.
        DataError: there are no such images.
    """
    if not options.data:
        raise ConfigError("--data: say which images: a source, a file, a folder, or - for stdin")
    found = _outside_sources(options.data)
    if found is None:
        source = open_complete(options.data, options.of(options.data), beside=beside)
        for part in ("test", "train") if options.part == "auto" else (options.part,):
            table = source.images_of(part)
            if table is not None:
                return _named(source, part, table, _decoding(options, decoding))
        raise DataError(f"--part: {source.name} has no {options.part} images")
    if options.part != "auto":
        raise ConfigError(f"--part: {options.data} has no parts")
    table, left_out = found
    return NamedImages(
        table.with_decoding(_decoding(options, decoding)), options.data, left_out=left_out
    )


def labelled_images(name: str, options: ImageOptions, decoding: Decoding) -> NamedImages:
    """The validation images of a source, otherwise its test images, otherwise all.

    Args:
        name: as `--data` takes it.
        options: how it is opened.
        decoding: how files are decoded, unless the flags say otherwise.

    Raises:
        ConfigError, DataError: as `open_complete` says.
    """
    source = open_complete(name, options.of(name), beside=(options.data,))
    part = next(part for part in ("validation", "test", "train") if part in source.parts)
    return _named(source, part, source.parts[part], _decoding(options, decoding))


def _named(source: Source, part: str, table: ImageTable, decoding: Decoding) -> NamedImages:
    has_parts = len(source.parts) > 1 or source.unlabelled
    what = f"{source.name}, {part} images" if has_parts else source.name
    if not table.takes_pixels:
        table = table.with_decoding(decoding)
    return NamedImages(table, what, source.class_names)


def _outside_sources(name: str) -> tuple[FileTable, str] | None:
    """Images that stand on the disk and are no source, and what is left out there.

    None: it is a source, or nothing at all.
    """
    if name == STDIN:
        lines = sys.stdin.buffer.read().splitlines()
        return _files(Path(), [line for line in lines if line.strip()], of="standard input"), ""
    path = Path(name)
    if name.partition(":")[0] in SOURCES:
        return None
    if not exists(path):
        if ":" not in name and (os.sep in name or path.suffix):  # no source is called so
            raise DataError(f"--data: {short_path(name)}: no such file or folder")
        return None
    if path.is_dir():
        listing = list_images(path)
        names = [os.fsencode(image) for image in listing.images]
        left_out = shortened([f"{n:,} {kind}" for kind, n in listing.left_out.most_common()])
        return _files(path, names, of=name, left_out=left_out), left_out
    return _files(Path(), [os.fsencode(name)], of=name), ""


def _files(root: Path, names: list[bytes], *, of: str, left_out: str = "") -> FileTable:
    if not names:
        raise DataError(f"--data: {of} has no images{left_out and f', only {left_out}'}")
    return FileTable(root, np.array(names), torch.full((len(names),), -1))


def _decoding(options: ImageOptions, trained: Decoding) -> Decoding:
    """That of training, but for what was asked for."""
    asked = options.of(STDIN).decoding
    low_high = asked.value_range or trained.value_range
    limit = trained.max_pixels if options.max_image_mpix is None else asked.max_pixels
    return Decoding(low_high, limit)
