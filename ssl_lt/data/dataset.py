"""The training, validation and test images of a run: a source with its training subset."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.groups import Groups
from ssl_lt.core.processes.distributed import first_of_each_machine
from ssl_lt.core.processes.rank_consistency import check_ranks_agree
from ssl_lt.core.types import ImageSpec, Loader
from ssl_lt.data.images.crops import Crop
from ssl_lt.data.loading.plan import BatchSchedule, TrainLoader
from ssl_lt.data.loading.worker_loader import WorkerLoader
from ssl_lt.data.long_tail import groups_by_count, groups_by_thirds
from ssl_lt.data.options import DataOptions
from ssl_lt.data.sources.columns import NO_LABELS
from ssl_lt.data.sources.registry import Source, open_complete, open_source
from ssl_lt.data.sources.source import with_group_notes
from ssl_lt.data.splits.images import Images, images_of
from ssl_lt.data.splits.split import Split
from ssl_lt.data.splits.test_split import Tested, choose_test
from ssl_lt.data.splits.train_split import choose_split
from ssl_lt.data.splits.unreadable import BadImage, bad_images, readable, readable_split
from ssl_lt.data.tables.decode_once import decode_once
from ssl_lt.data.tables.table import ImageTable, PixelTable, all_rows, digest

# Pixels a side of your own images, unless something else is asked for.
_USUAL_SIZE = 224


@dataclass(frozen=True)
class Data:
    """A source with its training subset.

    Attributes:
        source: what was opened.
        split: the rows that are trained on.
        train: those rows; in memory, or files where they do not fit.
        options: what it was opened with.
        bad_images: left out of `split` and of the test set, but still in `source.train`.
        held_out: rows of `source.train` that serve as validation images; None: none do.
    """

    source: Source
    split: Split
    train: ImageTable
    options: DataOptions
    bad_images: tuple[BadImage, ...] = ()
    held_out: NDArray[np.int64] | None = None

    @property
    def num_classes(self) -> int:
        """0 where there are no labels."""
        return len(self.source.class_names)

    @property
    def image_size(self) -> int:
        """Side in pixels of what a network sees."""
        return self.spec.size

    @cached_property
    def spec(self) -> ImageSpec:
        """Size, resizing and normalisation of what a network sees."""
        return image_spec(self.source, self.options)

    @property
    def groups(self) -> tuple[Groups, ...]:
        """Many, medium and few by count and by thirds; `leading_groups` says which tells more."""
        counts = np.asarray(self.split.counts_per_class)
        return (groups_by_count(counts), groups_by_thirds(counts)) if counts.size else ()

    @property
    def readable(self) -> ImageTable:
        """`source.train` without the images that cannot be read, are tested on or held out."""
        withheld = self._tested.withheld.tolist()
        if self.held_out is not None:
            groups = self.source.train.group_ids
            withheld += self.held_out.tolist()
            if groups is not None:  # beyond the rows that the split has of them
                own = groups[torch.from_numpy(self.held_out)]
                withheld += torch.nonzero(torch.isin(groups, own))[:, 0].tolist()
        return readable(self.source.train, self.bad_images, part="train", withheld=withheld)

    @property
    def has_validation(self) -> bool:
        """There are images to choose by, which are neither trained on nor tested on."""
        return self.source.validation is not None or self.held_out is not None

    def monitor_set(self) -> ImageTable | None:
        """What is evaluated between epochs: the validation set, or else the test split."""
        return self.test if self.validation is None else self.validation

    @cached_property
    def sha256(self) -> str:
        """Of all that a run goes by; one that goes on must find the same.

        Raises:
            DataError: a file is not there; names it.
        """
        table, groups = self.source.validation, self.train.group_ids
        found = [self.train_sha256]
        if table is not None:
            table = readable(table, self.bad_images, part="validation")
            found.append(table.content_sha256())
        if groups is not None:  # they say which images are held out
            found.append(digest(groups))
        if len(found) == 1:
            return self.train_sha256
        return hashlib.sha256(" ".join(found).encode()).hexdigest()

    @cached_property
    def train_sha256(self) -> str:
        """Of the training images, see `ImageTable.content_sha256`."""
        if self.source.train.takes_pixels:
            return self.train.content_sha256()
        # As they are stored: what is decoded and resized depends on the version of Pillow.
        return self.source.train.take(self.split.indices).content_sha256(self.file_sizes)

    @cached_property
    def file_sizes(self) -> list[int | str]:
        """Of the training images, see `ImageTable`; the first use looks every file up."""
        if self.source.train.takes_pixels:
            return [""] * len(self.split.indices)
        return self.source.train.take(self.split.indices).file_sizes()

    @property
    def images(self) -> Images | None:
        """All images by name, see `images_of`."""
        return images_of(self.source, self.split.indices, self.file_sizes)

    @property
    def test_sha256(self) -> str:
        """Of the test split, "" where there is none; the same decoded or not."""
        return self._tested.sha256

    @cached_property
    def _tested(self) -> Tested:
        path = self.options.test_split
        return choose_test(path, self.source, self.split, self.bad_images)

    @property
    def encoded_test(self) -> ImageTable | None:
        """The test split as it is stored; None where there is none."""
        return self._tested.table

    @cached_property
    def test(self) -> ImageTable | None:
        """The test split, decoded if it fits in memory; the first use takes the time."""
        return None if self._tested.table is None else self.decoded(self._tested.table)

    @cached_property
    def validation(self) -> ImageTable | None:
        """The validation set, decoded if it fits in memory; None where there is none."""
        table = self.source.validation
        if table is None and self.held_out is not None:
            return self.decoded(self.source.train.take(self.held_out))
        if table is None:
            return None
        return self.decoded(readable(table, self.bad_images, part="validation"))

    def decoded(self, table: ImageTable) -> ImageTable:
        """Every row of a table, in memory where that fits."""
        return decode_once(all_rows(table), self.spec, limit_mib=self.options.cache_mib)


def image_spec(source: Source, options: DataOptions) -> ImageSpec:
    """What a network sees of a source: what was asked for, or else what is usual for the source."""
    return ImageSpec(
        size=options.image_size or source.image_size or _USUAL_SIZE,
        mean=options.mean or source.mean,
        std=options.std or source.std,
        interpolation=options.interpolation,
        crop=1.0 if source.image_size is not None else options.crop_pct,
    )


@dataclass(frozen=True)
class SplitFiles:
    """What a run has kept of its data, which takes the place of the recipe when it goes on.

    Attributes:
        train: rows that are trained on.
        test: rows that are tested on; the file need not exist.
        bad_images: images that were left out; the file need not exist.
        images: all images by name; the file need not exist.
    """

    train: Path
    test: Path
    bad_images: Path
    images: Path


def open_data(options: DataOptions, *, stored: SplitFiles | None = None) -> Data:
    """Opens the source, chooses the rows and decodes those.

    Args:
        options: the flags.
        stored: of a run that goes on or is evaluated.

    Raises:
        ConfigError, DataError: as `open_source` and `choose_split` say.
        DistributedError: processes found other data, or train on other rows of it.
    """
    # One process downloads; the others then find the files.
    with first_of_each_machine() if options.download else nullcontext():
        # A file that says what to test on leaves nothing to hold out.
        opened = open_source if options.test_split is None else open_complete
        source = opened(options.data, options)
    chosen, listed, images = options, None, None
    if stored is not None:
        if stored.test.is_file():
            options = replace(options, test_split=stored.test)
        chosen, listed = replace(options, split=stored.train), stored.bad_images
        images = stored.images
    bad = bad_images(source, options, listed=listed)
    split = readable_split(choose_split(chosen, source, images=images), source, bad)
    check_ranks_agree(
        {
            "rows of --data": split.num_rows,
            "SHA-256 of --data": split.data_sha256,
            "SHA-256 of the rows trained on": split.sha256,
        }
    )
    parts = source.parts
    if options.test_split is not None:  # refused before minutes are spent on decoding
        tested = choose_test(options.test_split, source, split, bad).table
        parts |= {} if tested is None else {"test": tested}
    if source.grouped_by:
        parts["train"] = source.train.take(split.indices)
        source = with_group_notes(source, parts)
    spec = image_spec(source, options)
    train = decode_once(source.train.take(split.indices), spec, limit_mib=options.cache_mib)
    return Data(source, split, train, options, bad)


def seen_with(data: Data, options: DataOptions) -> Data:
    """The same images as other options say that they are seen; `data` where they are so already.

    Args:
        data: opened.
        options: those of `data`, but for what a network expects of images.
    """
    spec = image_spec(data.source, options)
    if spec == data.spec:
        return data
    options = replace(options, test_split=data.options.test_split)
    table = data.source.train.take(data.split.indices)
    train = decode_once(table, spec, limit_mib=options.cache_mib)
    return replace(data, train=train, options=options)


def train_loader(
    data: Data,
    plan: BatchSchedule,
    crop: Crop,
    *,
    device: torch.device,
) -> Loader:
    """Indexing for what is in memory, worker processes for what is not."""
    if isinstance(data.train, PixelTable):
        return TrainLoader(data.train, plan, device=device)
    return WorkerLoader(
        data.train,
        crop,
        plan,
        spec=data.spec,
        device=device,
        workers=data.options.workers,
    )


def check_labels(data: Data, verb: str) -> None:
    """Raises ConfigError where a verb needs labels and there are none."""
    if not data.num_classes or int(data.train.labels.min()) < 0:
        why = " (--label-column none)" if data.options.label_column == NO_LABELS else ""
        hint = f": {data.source.labels_from}" if data.source.labels_from and not why else ""
        raise ConfigError(
            f"--data: {data.source.name} has no labels{why}, and {verb} needs them{hint}"
        )
