"""Flags that say which data and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_lt.core.errors import ConfigError


@dataclass(frozen=True)
class SourceOptions:
    """Where a source looks: `data_root` is a folder, `download` permits fetching into it."""

    data_root: Path = Path("data")
    download: bool = False


@dataclass(frozen=True)
class DataOptions:
    """Which data, and how much of it."""

    data: str = "digits"
    """digits (comes with the package), cifar10, cifar100, folder (= data root) or folder:PATH."""

    data_root: Path = Path("data")
    """Folder with the data: torchvision's layout or the hub's parquet files."""

    download: bool = False
    """Download the data set into the data root if it is not there."""

    imbalance: Literal["exponential", "step", "pareto", "none"] = "exponential"
    """Profile by which the training set is thinned; none: take every image."""

    imbalance_factor: float | None = None
    """Images of the largest class over those of the smallest. Not given: digits are thinned by 10
    and CIFAR by 100, as published; a folder is long-tailed by itself and is taken as it is."""

    split: Path | None = None
    """File with the training rows, instead of a profile: a split.json, or a list in .npy or .txt.
    """

    split_seed: int = 0
    """Which images of each class stay; 0 gives the published choice (LDAM)."""

    image_size: int = 224
    """Side of the images a folder is trained on, in pixels; digits and CIFAR are 32."""

    num_workers: int = 4
    """Processes that decode a folder too large for memory; 0: decode in the main process."""

    cache_mib: int = 1024
    """A folder that needs no more MiB than this is decoded once and kept in memory; 0: never."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value no source could use."""
        factor = self.imbalance_factor
        if factor is not None and not 1 <= factor < float("inf"):
            raise ConfigError(f"--imbalance-factor {factor:g}: must be 1 or more")
        if not 0 <= self.split_seed < 2**32:
            raise ConfigError(f"--split-seed {self.split_seed}: must be in 0 ... 2^32 - 1")
        if self.image_size < 8:
            raise ConfigError(f"--image-size {self.image_size}: must be 8 or more")
        if self.num_workers < 0:
            raise ConfigError(f"--num-workers {self.num_workers}: must be 0 or more")
        if self.cache_mib < 0:
            raise ConfigError(f"--cache-mib {self.cache_mib}: must be 0 or more")

    def source_options(self) -> SourceOptions:
        """The part a source needs."""
        return SourceOptions(data_root=self.data_root, download=self.download)
