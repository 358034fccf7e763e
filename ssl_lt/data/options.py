"""Options that say which data, and how much of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.disk.urls import check_no_secret, local_path
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Effect, option
from ssl_lt.core.types import Interpolation
from ssl_lt.data.images.crops import CENTRE_FRACTION
from ssl_lt.data.images.decode import MAX_PIXELS, Decoding
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.long_tail import check_imbalance_factor
from ssl_lt.data.sources.columns import NO_LABELS

# What says which images of a source, and which others.
_WHICH = {
    "test_data", "val_data", "imbalance", "imbalance_factor", "split", "test_split", "split_seed",
}  # fmt: skip
# What is said otherwise by another kind of source, or not at all.
_OF_KIND = {
    "group_column", "group_pattern", "image_column", "label_column", "split_column", "crop_boxes",
    "crop_margin",
}  # fmt: skip
# Of class sizes.
Profile = Literal["exponential", "step", "pareto", "none"]


@dataclass(frozen=True)
class SourceOptions:
    """Which data, and where it is."""

    data: str = option("digits", effect=Effect.PLACE, group="data")
    """Training data: digits (comes with the package), cifar10, cifar100, folder:PATH, csv:FILE,
    list:FILE (a path and a label a line), coco:FILE (JSON of COCO, iNaturalist or LILA),
    hf:NAME_OR_PATH (Hugging Face datasets) or wds:URLS (tar shards of WebDataset, also in an object
    store such as s3://). Default: that of the run, otherwise digits."""

    test_data: str | None = option(None, effect=Effect.PLACE, group="data")
    """Test set (same syntax as --data). Default: the data set's own; otherwise a fifth of each
    class of your own images is held out."""

    val_data: str | None = option(None, effect=Effect.PLACE, group="data")
    """Validation set (same syntax as --data), used for model selection and for accuracy during
    training. Default: the data set's own, or --val-fraction of finetune.py; otherwise a part of the
    training set is held out where a choice is made."""

    group_column: str | None = option(None, page="all", group="data")
    """Column of csv: or hf:, or field of the images in coco:, that says which images belong
    together, such as patient_id or location. They stay in one part wherever images are held out,
    and intervals resample them together."""

    group_pattern: str | None = option(None, page="all", group="data")
    """Regular expression whose first parentheses find in the path of an image (below its folder)
    which images belong together, as --group-column does."""

    image_column: str | None = option(None, page="all", group="data")
    """Column of csv: or hf: with the images, field of them in coco:, or suffix of the images in
    wds:. Default: found by its name; file_name in coco:."""

    label_column: str | None = option(None, page="all", group="data")
    """Column of csv: or hf: with the labels, field of the categories in coco:, or suffix of the
    labels in wds: ("none" = use your own data without its labels). In csv:, A,B,C are columns of
    which one has a 1. Default: found by its name, or such columns; name in coco:, cls in wds:."""

    split_column: str | None = option(None, page="all", group="data")
    """Column of csv:, or field of the images in coco:, that says train, val or test of each image
    ("none" = train on all). Default: found by its name."""

    crop_boxes: bool = option(default=False, page="all", group="data")
    """Take each annotation of coco: for an example of its own, cut out of its image by its bbox.
    Examples of one image belong together unless --group-column says what does."""

    crop_margin: float = option(0.0, page="all", group="data")
    """What --crop-boxes keeps around a box on every side, over the length of that side."""

    value_range: tuple[float, ...] = option((), page="all", group="data")
    """Two values, LOW HIGH, that become 0 and 255 in all images of the data set, such as 0 4095 for
    12 bits in 16-bit files. Default: 0 65535 for 16 bits; 8 bits stay as they are."""

    max_image_mpix: int | None = option(None, effect=Effect.RUN, page="all", group="data")
    """Size limit of an image in millions of pixels; larger ones cannot be read (0 = no limit).
    Default: 89."""

    data_root: str | None = option(None, effect=Effect.MACHINE, group="data")
    """Folder that holds the data: torchvision's layout or the hub's parquet files. Paths in csv:,
    list: and coco: are relative to it. For a run on disk, also where its folder:, csv: and the like
    are now. Default: data/; for csv:, list: and coco: the folder of that file."""

    download: bool = option(default=False, effect=Effect.RUN, group="data")
    """Download CIFAR into the data root if it is not there."""

    shard_cache: Path | None = option(None, effect=Effect.MACHINE, page="all", group="data")
    """Folder for the index of each wds: shard, and for copies of shards from an object store. All
    processes of a machine share it. Default: ~/.cache/ssl_lt."""

    shard_cache_mib: int = option(10_240, effect=Effect.MACHINE, page="all", group="data")
    """Size limit of the copied shards in MiB (0 = no limit). The least recently used are removed
    first."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value no source could use."""
        for name in ("data", "test_data", "val_data", "data_root"):
            check_no_secret(f"--{name.replace('_', '-')}", str(getattr(self, name) or ""))
        check_at_least(self, {"shard_cache_mib": 0, "max_image_mpix": 0})
        check_range(self, {"crop_margin": "[0, 10]"})
        if self.crop_margin and not self.crop_boxes:
            raise ConfigError("--crop-margin: has no effect without --crop-boxes")
        if self.group_pattern is not None:
            _check_pattern(self.group_pattern, self.group_column)
        if self.value_range and not _is_interval(self.value_range):
            given = " ".join(f"{value:g}" for value in self.value_range)
            raise ConfigError(f"--value-range {given}: give two numbers, the lower one first")

    @property
    def root(self) -> Path:
        """The data root.

        Raises:
            ConfigError: it is a URL.
        """
        return local_path(str(self.data_root or "data"), of=f"--data-root {self.data_root}")

    @property
    def decoding(self) -> Decoding:
        """How image files are decoded."""
        value_range = (self.value_range[0], self.value_range[1]) if self.value_range else None
        limit = MAX_PIXELS if self.max_image_mpix is None else self.max_image_mpix * 1_000_000
        return Decoding(value_range, limit)


@dataclass(frozen=True)
class WholeSourceOptions(SourceOptions):
    """Which data, of which all images are used; it has to be named."""

    data: str = option("", effect=Effect.PLACE, group="data")
    """The data (SOURCE): digits, cifar10, cifar100, folder:PATH, csv:FILE, list:FILE (a path and a
    label a line), coco:FILE (JSON of COCO, iNaturalist or LILA), hf:NAME_OR_PATH (Hugging Face
    datasets) or wds:URLS (tar shards of WebDataset)."""
    test_data: str | None = option(None, effect=Effect.PLACE, group="data")
    """Test set (same syntax as SOURCE). Default: the data set's own, or none."""
    val_data: str | None = option(None, effect=Effect.PLACE, group="data")
    """Validation set (same syntax as SOURCE). Default: the data set's own, or none."""


@dataclass(frozen=True)
class DataOptions(SourceOptions):
    """Which data, and how much of it."""

    imbalance: Profile = option("exponential", group="data")
    """Profile of the class sizes that the training set is reduced to (none = use every image)."""

    imbalance_factor: float | None = option(None, group="data")
    """Images of the largest class divided by those of the smallest. Default: 10 for digits and 100
    for CIFAR, as published; your own data is used as it is."""

    split: Path | None = option(None, page="all", group="data")
    """File with the rows of the training images, used instead of a profile: a split.json, or a list
    of rows in .npy or .txt."""

    test_split: Path | None = option(None, page="all", group="data")
    """File with the rows of the test images, made by ssl-lt data split. They are rows of the test
    set or of the training set; nothing else is then held out. Use it with the --split made beside
    it."""

    split_seed: int = option(0, page="all", group="data")
    """Seed that chooses which images of each class are kept. Default: 0, the published choice
    (LDAM)."""

    image_size: int | None = option(None, group="data")
    """Side of the images a network sees, in pixels. Default: what the weights of --init-from
    expect, otherwise 32 for digits and CIFAR and 224 for your own images."""

    mean: tuple[float, float, float] | None = option(None, page="all", group="data")
    """Mean of each channel that is subtracted from pixels in 0 ... 1. Default: what the weights of
    --init-from expect, otherwise that of the data set (ImageNet's for your own images)."""

    std: tuple[float, float, float] | None = option(None, page="all", group="data")
    """Standard deviation of each channel, by which pixels are then divided. Default: as for
    --mean."""

    interpolation: Interpolation = option("bicubic", page="all", group="data")
    """How whole images and the crops that are classified are resized (--view.interpolation has the
    crops of contrasts and of pretraining)."""

    crop_pct: float = option(CENTRE_FRACTION, page="all", group="data")
    """Share of the shorter side that an evaluation keeps from the middle of your own images; digits
    and CIFAR are kept whole."""

    num_workers: int = option(4, effect=Effect.MACHINE, page="all", group="data")
    """Worker processes that decode images which do not fit in memory (0 = the main process
    decodes)."""

    worker_timeout: int = option(
        Workers.timeout_seconds, effect=Effect.RUN, page="all", group="data"
    )
    """Seconds to wait for a batch from a worker process (0 = no limit)."""

    cache_mib: int = option(1024, page="all", group="data")
    """Size in MiB up to which a set of image files is decoded once and kept in memory (0 = never).
    Random crops are then cut from the middle square of each image, reduced to little more than
    --image-size, otherwise from the whole file."""

    shard_window: int = option(16_384, page="all", group="data")
    """Number of images of wds: that are shuffled among each other. Shards are read one after
    another, in a new random order every epoch (0 = shuffle over the whole set)."""

    shard_streams: int | None = option(None, page="all", group="data")
    """Number of shards that are read at the same time, over all processes: a multiple of their
    number and a divisor of the batch size. Default: the largest divisor up to 16."""

    bad_images: Literal["stop", "skip"] = option("stop", page="all", group="data")
    """What to do about an image that cannot be read: stop and name it, or decode every image before
    training, skip such images and list them in the run's bad_images.csv."""

    max_bad_images: int = option(100, page="all", group="data")
    """Number of images that --bad-images skip may skip before it ends the run."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value no source could use."""
        super().__post_init__()
        check_imbalance_factor(self.imbalance_factor)
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"--std: {min(self.std):g}, must be above 0")
        check_range(self, {"crop_pct": "(0, 1]"})
        if not 0 <= self.split_seed < 2**32:
            raise ConfigError(f"--split-seed {self.split_seed}: must be in 0 ... 2^32 - 1")
        check_at_least(
            self,
            {
                "image_size": 8,
                "num_workers": 0,
                "worker_timeout": 0,
                "cache_mib": 0,
                "max_bad_images": 0,
                "shard_window": 0,
                "shard_streams": 1,
            },
        )

    @property
    def workers(self) -> Workers:
        """Who decodes what does not fit into memory."""
        return Workers(self.num_workers, self.worker_timeout)


def for_other_images(options: DataOptions, data: str) -> DataOptions:
    """The options for another source, whose images are prepared and read in the same way.

    Args:
        options: of a source.
        data: the other one. Columns go for one of the same kind, but not that it has no labels.
    """
    kind, has_files, _ = data.partition(":")
    left = {*_WHICH}
    if kind != options.data.partition(":")[0]:
        left |= _OF_KIND
    elif options.label_column == NO_LABELS:
        left.add("label_column")
    if not has_files:
        left |= {"value_range", "max_image_mpix"}
    usual: dict[str, Any] = {name: getattr(DataOptions, name) for name in left}
    return replace(options, **usual, data=data)


def _check_pattern(pattern: str, column: str | None) -> None:
    if column is not None:
        raise ConfigError("--group-pattern: --group-column says which images belong together")
    try:
        groups = re.compile(pattern).groups
    except (re.error, RecursionError) as error:
        raise ConfigError(f"--group-pattern {pattern!r}: {error}") from error
    if not groups:
        raise ConfigError(f"--group-pattern {pattern!r}: has no parentheses around the group")


def _is_interval(values: tuple[float, ...]) -> bool:
    return len(values) == 2 and -math.inf < values[0] < values[1] < math.inf
