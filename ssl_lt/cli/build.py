"""From a configuration to the things that train: data, networks, loaders, an accelerator."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from ssl_lt.augment.views import ContrastiveView, ViewOptions, WeakView, WorkerCrop
from ssl_lt.cli.agreement import check_split
from ssl_lt.cli.options import ModelOptions, RunOptions
from ssl_lt.cli.processes import first_of_each_machine
from ssl_lt.core.errors import ConfigError
from ssl_lt.data.bad_images import BadImage, bad_images, readable, readable_split
from ssl_lt.data.cache import decode_once
from ssl_lt.data.choose_split import choose_split
from ssl_lt.data.choose_test import Tested, choose_test
from ssl_lt.data.content import content_sha256, stored_sha256
from ssl_lt.data.loaders import BatchPlan, TrainLoader
from ssl_lt.data.long_tail import Groups, groups_by_count, groups_by_thirds
from ssl_lt.data.options import DataOptions
from ssl_lt.data.packed import PackedTable
from ssl_lt.data.shard_plan import epoch_plan
from ssl_lt.data.sources import Source, open_source
from ssl_lt.data.split import Split
from ssl_lt.data.tables import EncodedTable, ImageTable, PixelTable, decode_all
from ssl_lt.data.worker_loader import WorkerLoader
from ssl_lt.engine.plan import FitOptions, Loader
from ssl_lt.engine.precision import resolve_precision
from ssl_lt.engine.run_folder import RunFolder

# The augmentation of fine-tuning where pictures are too large for a padded crop.
CROP_AND_FLIP = ViewOptions(min_scale=0.08, jitter_probability=0.0, gray_probability=0.0)


@dataclass(frozen=True)
class Data:
    """A source with its training subset.

    Attributes:
        source: what was opened.
        whole: its whole training set, before the split; pixels may not be decoded yet.
        split: the rows that are trained on.
        train: those rows; in memory, or files where they do not fit.
        image_size: side in pixels of what a network sees.
        options: what it was opened with.
        bad_images: left out of `split` and of the test set, but still in `whole`.
    """

    source: Source
    whole: ImageTable
    split: Split
    train: PixelTable | EncodedTable
    image_size: int
    options: DataOptions
    bad_images: tuple[BadImage, ...] = ()

    @property
    def num_classes(self) -> int:
        """0 where there are no labels."""
        return len(self.source.class_names)

    @property
    def groups(self) -> tuple[Groups, ...]:
        """Many, medium and few under both rules; by count first where that tells classes apart."""
        counts = np.asarray(self.split.counts_per_class)
        return (groups_by_count(counts), groups_by_thirds(counts)) if counts.size else ()

    @property
    def readable(self) -> ImageTable:
        """`whole` without the images that cannot be read, or are tested on."""
        withheld = self._tested.withheld.tolist()
        return readable(self.whole, self.bad_images, part="train", withheld=withheld)

    def test(self) -> PixelTable | EncodedTable | None:
        """The test split, decoded where it fits; the first call takes the time."""
        return self._test

    def validation(self) -> PixelTable | EncodedTable | None:
        """Images of their own to choose by, decoded where they fit; None where there are none."""
        return self._validation

    def watched(self) -> PixelTable | EncodedTable | None:
        """What is looked at between epochs: the validation images, or else the test split."""
        return self._test if self._validation is None else self._validation

    @cached_property
    def sha256(self) -> str:
        """Of all that a run goes by; one that goes on must find the same.

        Raises:
            DataError: a file is not there; names it.
        """
        table = self.source.validation()
        if table is None:
            return self.train_sha256
        both = f"{self.train_sha256} {stored_sha256(table)}"
        return hashlib.sha256(both.encode()).hexdigest()

    @cached_property
    def train_sha256(self) -> str:
        """Of the training images, see `content_sha256`."""
        if isinstance(self.whole, PixelTable | PackedTable):
            assert isinstance(self.train, PixelTable)
            return content_sha256(self.train)
        # As they are stored: what is decoded and resized depends on the version of Pillow.
        return content_sha256(self.whole.take(self.split.indices))

    @property
    def test_sha256(self) -> str:
        """Of the test split, "" where there is none; the same decoded or not."""
        return self._tested.sha256

    @cached_property
    def _tested(self) -> Tested:
        path = self.options.test_split
        return choose_test(path, self.source, self.whole, self.split, self.bad_images)

    @cached_property
    def _test(self) -> PixelTable | EncodedTable | None:
        return None if self._tested.table is None else self.decoded(self._tested.table)

    @cached_property
    def _validation(self) -> PixelTable | EncodedTable | None:
        table = self.source.validation()
        if table is None:
            return None
        return self.decoded(readable(table, self.bad_images, part="validation"))

    def decoded(self, table: ImageTable) -> PixelTable | EncodedTable:
        """Every row of a table, in memory where that fits."""
        return decode_once(
            decode_all(table), image_size=self.image_size, limit_mib=self.options.cache_mib
        )


def open_data(options: DataOptions, *, split_file: Path | None = None) -> Data:
    """Opens the source, chooses the rows and decodes those.

    Args:
        options: the flags.
        split_file: of a run that goes on; it takes the place of the recipe, and a test split
            beside it that of the flag.

    Raises:
        ConfigError, DataError: as `open_source` and `choose_split` say.
        DistributedError: as `check_split` says.
    """
    # One process downloads; the others then find the files.
    with first_of_each_machine() if options.download else nullcontext():
        source = open_source(options.data, options.source_options())
        whole = source.train()
    chosen, listed = options, None
    if split_file is not None:
        run = RunFolder(split_file.parent)
        if run.test_split.is_file():
            options = replace(options, test_split=run.test_split)
        chosen, listed = replace(options, split=split_file), run.bad_images
    bad = bad_images(source, whole, options, listed=listed)
    split = readable_split(choose_split(chosen, source, whole), source, whole, bad)
    check_split(split)
    if options.test_split is not None:  # refused before minutes are spent on decoding
        choose_test(options.test_split, source, whole, split, bad)
    image_size = source.image_size or options.image_size
    train = decode_once(
        whole.take(split.indices), image_size=image_size, limit_mib=options.cache_mib
    )
    return Data(source, whole, split, train, image_size, options, bad)


def batch_plan(run: RunOptions, fit: FitOptions, data: Data) -> BatchPlan:
    """Which images are in which step.

    Raises:
        ConfigError: an epoch has no whole batch, or not as many as an optimiser step adds up.
    """
    rows, options = data.split.indices, data.options
    plan = epoch_plan(data.whole, rows, options, batch_size=run.batch_size, seed=run.seed)
    if fit.accumulate_steps > plan.steps_per_epoch:
        raise ConfigError(
            f"--accumulate-steps: {fit.accumulate_steps} batches of {run.batch_size} are more "
            f"than an epoch has ({plan.steps_per_epoch})"
        )
    return plan


def train_loader(
    data: Data,
    plan: BatchPlan,
    crop: WorkerCrop,
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
        size=data.image_size,
        device=device,
        workers=data.options.workers,
    )


def build_backbone(options: ModelOptions, *, image_size: int, seed: int) -> tuple[nn.Module, int]:
    """The network and the width of its features; its weights follow from the seed.

    Raises:
        ConfigError: an unknown name.
    """
    from ssl_lt.models.backbones import create_backbone, feature_dim

    torch.manual_seed(seed)
    backbone = create_backbone(options.backbone, width=options.width, image_size=image_size)
    return backbone, feature_dim(backbone)


def weak_view(data: Data) -> WeakView | ContrastiveView:
    """Padded crop and flip for small pictures in memory, else random resized crop and flip."""
    if isinstance(data.train, PixelTable) and data.train.pixels.shape[-1] == data.image_size:
        return WeakView(mean=data.source.mean, std=data.source.std)
    return ContrastiveView(
        CROP_AND_FLIP, size=data.image_size, mean=data.source.mean, std=data.source.std
    )


def autocast_dtype(
    precision: Literal["auto", "no", "bf16"], device: torch.device
) -> torch.dtype | None:
    """What features are computed in: the precision the network was trained in."""
    return torch.bfloat16 if resolve_precision(precision, device) == "bf16" else None


def check_labels(data: Data, verb: str) -> None:
    """Raises ConfigError where a verb needs labels and there are none."""
    if not data.num_classes or int(data.train.labels.min()) < 0:
        why = " (--label-column none)" if data.options.label_column == "none" else ""
        raise ConfigError(f"--data: {data.source.name} has no labels{why}, and {verb} needs them")
