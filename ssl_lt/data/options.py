"""Flags that say which data and how much of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import Effect, option
from ssl_lt.core.urls import local_path
from ssl_lt.data.loading.workers import Workers


@dataclass(frozen=True)
class SourceOptions:
    """Where a source looks.

    Attributes:
        data_root: folder, or for some the URL of one; None: each source's own choice.
        download: permits fetching into it.
        test_data: a source to test on, named like the one to train on; None: its own test set.
        val_data: likewise, to choose by.
        image_column: of a table with the images; None: found by its name.
        label_column: likewise; "none": without labels, whatever there is.
        shard_cache: folder for what is fetched from other machines; None: the user's for caches.
        shard_cache_mib: limit of the shards, and of the single images.
        hold_out: keep some images of one's own for testing where there is no test set.
    """

    data_root: str | Path | None = None
    download: bool = False
    test_data: str | None = None
    val_data: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    shard_cache: Path | None = None
    shard_cache_mib: int = 10_240
    hold_out: bool = True

    @property
    def root(self) -> Path:
        """The data root of sources that are read from a folder of this machine.

        Raises:
            ConfigError: it is the URL of something else.
        """
        place = str(self.data_root or "data")
        path = local_path(place, of=f"--data-root {place}")
        if path is None:
            raise ConfigError(
                f"--data-root {place}: only folder:, csv: and list: are read from an object store"
            )
        return path


@dataclass(frozen=True)
class SourceFlags:
    """Which data, and where it is."""

    data: str = "digits"
    """digits (comes with the package), cifar10, cifar100, folder:PATH (or folder = data root),
    csv:FILE, list:FILE (a path and a label a line), hf:NAME_OR_PATH (Hugging Face datasets) or
    wds:URLS (tar shards of WebDataset). PATH and FILE may be URLs (s3://..., gs://...)."""

    test_data: str | None = None
    """What to test on, named like --data; not given: the data's own test set, or else a fifth of
    each class of your own pictures."""

    val_data: str | None = None
    """What to choose by and look at between epochs, named like --data; not given: the data's own
    validation set, or else training images that are kept aside for a choice."""

    image_column: str | None = option(None, page="all")
    """Column of csv: or hf: with the images, or suffix of those in wds:; not given: it is found by
    its name."""

    label_column: str | None = option(None, page="all")
    """Column of csv: or hf: with the labels, or suffix of those in wds: (cls); none: any data of
    your own without its labels."""

    data_root: str | None = option(None, effect=Effect.MACHINE)
    """Folder with the data: torchvision's layout or the hub's parquet files; not given: data/.
    Paths in csv: and list: are relative to it, which may be a URL then; not given: to the folder of
    that file."""

    download: bool = option(default=False, effect=Effect.RUN)
    """Download the data set into the data root if it is not there."""

    shard_cache: Path | None = option(None, effect=Effect.MACHINE, page="all")
    """Folder where wds: keeps what it found out about shards, and copies of what lies in an object
    store, shards and single images; all processes of a machine share it. Not given: ssl_lt in
    ~/.cache."""

    shard_cache_mib: int = option(SourceOptions.shard_cache_mib, effect=Effect.MACHINE, page="all")
    """MiB of the copies of shards, of which the ones used longest ago go first, and of those of
    single images; of a larger set a share of the images is kept. 0: no limit."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value no source could use."""
        for name in ("data", "test_data", "val_data", "data_root"):
            check_no_secret(f"--{name.replace('_', '-')}", getattr(self, name) or "")
        check_at_least(self, {"shard_cache_mib": 0})

    def source_options(self) -> SourceOptions:
        """The part a source needs."""
        return SourceOptions(
            data_root=self.data_root,
            download=self.download,
            test_data=self.test_data,
            val_data=self.val_data,
            image_column=self.image_column,
            label_column=self.label_column,
            shard_cache=self.shard_cache,
            shard_cache_mib=self.shard_cache_mib,
        )


@dataclass(frozen=True)
class DataOptions(SourceFlags):
    """Which data, and how much of it."""

    imbalance: Literal["exponential", "step", "pareto", "none"] = "exponential"
    """Profile by which the training set is thinned; none: take every image."""

    imbalance_factor: float | None = None
    """Images of the largest class over those of the smallest. Not given: digits are thinned by 10
    and CIFAR by 100, as published; a folder is long-tailed by itself and is taken as it is."""

    split: Path | None = None
    """File with the training rows, instead of a profile: a split.json, or a list in .npy or .txt.
    """

    test_split: Path | None = option(None, page="all")
    """File with the rows to test on, made by ssl-lt data split: of the test set, or of the training
    set, of which nothing else is then held out. Goes with the --split made beside it."""

    split_seed: int = option(0, page="all")
    """Which images of each class stay; 0 gives the published choice (LDAM)."""

    image_size: int = 224
    """Side of the images a folder is trained on, in pixels; digits and CIFAR are 32."""

    num_workers: int = option(4, effect=Effect.MACHINE, page="all")
    """Processes that decode a folder too large for memory; 0: decode in the main process."""

    worker_timeout: int = option(Workers.timeout_seconds, effect=Effect.RUN, page="all")
    """Seconds that a batch of such a process is waited for; 0: for ever."""

    cache_mib: int = option(1024, effect=Effect.RUN, page="all")
    """A folder that needs no more MiB than this is decoded once and kept in memory; 0: never."""

    shard_window: int = option(16_384, page="all")
    """Images that wds: shuffles among each other: it reads shards one after another, in an order
    that every epoch draws anew. 0: shuffled over the whole set, read from anywhere."""

    shard_streams: int | None = option(None, page="all")
    """Shards that are read at a time, each process its share: a multiple of their number, and a
    divisor of the batch. Not given: the largest one up to 16."""

    bad_images: Literal["stop", "skip"] = option("stop", page="all")
    """What to do about an image of your own that cannot be read: stop and name it; or look at every
    image before training, leave such ones out and list them in the run's bad_images.csv."""

    max_bad_images: int = option(100, page="all")
    """Images that --bad-images skip may leave out; one more ends the run."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value no source could use."""
        super().__post_init__()
        factor = self.imbalance_factor
        if factor is not None and not 1 <= factor < float("inf"):
            raise ConfigError(f"--imbalance-factor {factor:g}: must be 1 or more")
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

    def source_options(self) -> SourceOptions:
        """The part a source needs; nothing is held out where `test_split` says what to test on."""
        return replace(super().source_options(), hold_out=self.test_split is None)


# user:password@ before a host, and keys or signatures among a URL's parameters.
_SECRET = re.compile(
    r"(?<=://)[^/@\s]+(?=@)|(?<=[?&])[^=&\s]*(?:token|sig|key|secret|password)[^=&\s]*=[^&\s]+",
    re.IGNORECASE,
)


def check_no_secret(flag: str, name: str) -> None:
    """Refuses a URL with credentials, before it stands in a log, a run folder or a report.

    Raises:
        ConfigError: names the flag, with the secret masked.
    """
    if _SECRET.search(name):
        raise ConfigError(
            f"{flag} {without_secret(name)}: has credentials, which every run folder would show: "
            "give them by the environment instead"
        )


def without_secret(name: str) -> str:
    """The same text with credentials masked."""
    return _SECRET.sub("***", name)
