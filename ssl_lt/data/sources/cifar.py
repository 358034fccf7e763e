"""CIFAR-10 and CIFAR-100, in torchvision's layout or the hub's."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_lt.core.errors import DataError
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.parquet import open_parquet
from ssl_lt.data.tables.table import ImageTable, PixelTable


@dataclass(frozen=True)
class Cifar:
    """What tells one CIFAR from the other.

    Attributes:
        name: as on the command line, and the folder of parquet files.
        python_folder: torchvision's folder.
        label_column: in the parquet files.
        mean: of each channel of the training set.
        std: of each channel of the training set.
    """

    name: str
    python_folder: str
    label_column: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CIFAR10 = Cifar(
    name="cifar10",
    python_folder="cifar-10-batches-py",
    label_column="label",
    mean=(0.49139968, 0.48215841, 0.44653091),
    std=(0.24703223, 0.24348513, 0.26158784),
)
CIFAR100 = Cifar(
    name="cifar100",
    python_folder="cifar-100-python",
    label_column="fine_label",
    mean=(0.50707516, 0.48654887, 0.44091784),
    std=(0.26733429, 0.25643846, 0.27615047),
)


def open_cifar(cifar: Cifar, options: SourceOptions) -> Source:
    """Finds the data under `--data-root`, or downloads it there.

    50,000 training and 10,000 test images of 32 x 32 pixels, all classes of equal size. The two
    layouts hold the same images in different orders: a seed chooses other images in each, and a
    split file made from one is refused by the other.

    Raises:
        DataError: nothing was found (says what was looked for) or a file is damaged.
    """
    root = options.root
    folder = _find(cifar, root)
    if folder is None and options.download:
        folder = _download(cifar, root)
    if folder is None:
        raise DataError(
            f"{cifar.name}: {root} has neither {cifar.python_folder}/ (torchvision's layout) nor "
            f"train-*.parquet and test-*.parquet, there or in {cifar.name}/: "
            "give --data-root FOLDER or --download"
        )
    read = _torchvision if folder.name == cifar.python_folder else _parquet
    test, names = read(cifar, folder, "test")
    return Source(
        cifar.name,
        names,
        train=read(cifar, folder, "train")[0],
        test=test,
        mean=cifar.mean,
        std=cifar.std,
        image_size=32,
        imbalance_factor=100.0,  # the factor most papers report
    )


def _find(cifar: Cifar, root: Path) -> Path | None:
    if (root / cifar.python_folder).is_dir():
        return root / cifar.python_folder
    for folder in (root / cifar.name, root):
        if any(folder.glob("train-*.parquet")) and any(folder.glob("test-*.parquet")):
            return folder
    return None


def _parquet(cifar: Cifar, folder: Path, part: str) -> tuple[ImageTable, tuple[str, ...]]:
    files = sorted(folder.glob(f"{part}-*.parquet"))
    return open_parquet(files, image_column="img", label_column=cifar.label_column, side=32)


def _class_of(cifar: Cifar) -> Any:
    from torchvision import datasets

    return datasets.CIFAR10 if cifar is CIFAR10 else datasets.CIFAR100


def _torchvision(cifar: Cifar, folder: Path, part: str) -> tuple[ImageTable, tuple[str, ...]]:
    """Torchvision unpickles a file only after its MD5 was found right."""
    dataset = _class_of(cifar)
    try:
        loaded = dataset(folder.parent, train=part == "train")
    except RuntimeError:
        meta = (dataset.meta["filename"], dataset.meta["md5"])
        for name, want in [*dataset.train_list, *dataset.test_list, meta]:
            _check_md5(folder / name, want)
        raise
    pixels = torch.from_numpy(loaded.data).permute(0, 3, 1, 2).contiguous()
    return PixelTable(pixels, torch.tensor(loaded.targets)), tuple(loaded.classes)


def _download(cifar: Cifar, root: Path) -> Path:
    """Into a temporary folder first: what stands under its final name is whole.

    An archive that lies in the root already is taken instead.
    """
    from torchvision.datasets.utils import download_url

    kind = _class_of(cifar)
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"{cifar.name}: --download needs Python 3.10.12, 3.11.4 or newer; or unpack {kind.url} "
            f"into {root}"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as unfinished:
            archive = root / kind.filename
            if not archive.is_file():
                download_url(kind.url, unfinished, kind.filename)
                archive = Path(unfinished) / kind.filename
            _check_md5(archive, kind.tgz_md5)
            shutil.unpack_archive(archive, unfinished, filter="data")
            return (Path(unfinished) / cifar.python_folder).rename(root / cifar.python_folder)
    except (OSError, RuntimeError, tarfile.TarError) as error:
        raise DataError(f"{cifar.name}: download into {root} failed: {error}") from error


def _check_md5(path: Path, want: str) -> None:
    """Raises DataError for another file than the published one, or none."""
    found = hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != want:
        raise DataError(f"{path}: MD5 {found}, expected {want}")
