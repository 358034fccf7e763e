"""What a view costs one core, beside other libraries.

    python benchmarks/views.py --what small      microseconds a view of 32 px, batch of 256
    python benchmarks/views.py --what large      the same of 224 px from 256 px, batch of 16
    python benchmarks/views.py --what jpeg       images/s from JPEG files to two views of 224 px

Small: SimCLR's view; the boosted view, which adds two operations of RandAugment at full strength;
crop, flip, AutoAugment and Cutout. Ours draws operations for each image. torchvision (v1 on Pillow
images, v2 on tensors) takes one image at a time, because it draws one set of parameters for all the
images of a call. kornia takes the batch, but its RandAugment and AutoAugment draw the operations
once for all of it; it is left out where it is not installed.

JPEG: a worker decodes and crops, the device (here the CPU) does the rest, and both count; the files
are images of noise at three scales, 500 x 375 and 2000 x 1500 pixels, quality 90.

Processor time counts, not wall time, so that other programs disturb less.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import set_start_method
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _process import in_new_process, in_turn, parser, report
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import InterpolationMode, v2

from ssl_lt.augment.boosted import BoostedView
from ssl_lt.augment.classifier_view import ClassifierView
from ssl_lt.augment.views import (
    LARGE_IMAGE_VIEW,
    SMALL_IMAGE_VIEW,
    ContrastiveView,
    ViewOptions,
    WorkerCrop,
)
from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.dataset import open_data, train_loader
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.allocator import keep_freed_memory

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAGNITUDE, CUTOUT, LARGE, BATCH_SIZE = 15, 16, 224, 50
Rows = dict[str, dict[str, float]]


def smooth_images(count: int, size: int) -> Tensor:
    """(N, 3, S, S) uint8: noise of single pixels would spare histograms nothing."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (255 * smooth).to(torch.uint8)


def pillow_blur(options: ViewOptions) -> Callable[[Image.Image], Image.Image]:
    """The blur of released codes: a radius drawn for each image."""

    def blur(image: Image.Image) -> Image.Image:
        low, high = options.min_sigma, options.max_sigma
        return image.filter(ImageFilter.GaussianBlur(low + (high - low) * torch.rand(1).item()))

    return blur


def torchvision_view(version: Any, name: str, options: ViewOptions, size: int) -> v1.Compose:
    """Torchvision's operations of a view of the same strength; `version` is v1 or v2."""
    crop: list[Any] = [
        version.RandomResizedCrop(
            size, (options.min_scale, 1.0), interpolation=InterpolationMode.BICUBIC
        )
    ]
    colors = (options.brightness, options.contrast, options.saturation, options.hue)
    colour = [
        version.RandomApply([version.ColorJitter(*colors)], p=options.jitter_probability),
        version.RandomGrayscale(options.gray_probability),
    ]
    last: list[Any] = []
    if options.blur_probability:
        sigmas = (options.min_sigma, options.max_sigma)
        blur = pillow_blur(options) if version is v1 else v2.GaussianBlur(size // 10 | 1, sigmas)
        colour.append(version.RandomApply([blur], p=options.blur_probability))
    if name == "boosted":
        colour.append(version.RandAugment(num_ops=2, magnitude=MAGNITUDE))
    if name == "autoaugment":
        crop = [version.RandomCrop(size, padding=4)]
        colour = [version.AutoAugment(version.AutoAugmentPolicy.CIFAR10)]
        share = CUTOUT**2 / size**2
        last = [version.RandomErasing(p=1.0, scale=(share, share), ratio=(1.0, 1.0))]
    to_float = v1.ToTensor() if version is v1 else v2.ToDtype(torch.float32, scale=True)
    normalise = version.Normalize(MEAN, STD)
    return v1.Compose([*crop, version.RandomHorizontalFlip(), *colour, to_float, normalise, *last])


def kornia_view(name: str, options: ViewOptions, size: int) -> nn.Module:
    """A batched pipeline of kornia."""
    import kornia.augmentation as k
    from kornia.augmentation.auto import AutoAugment, RandAugment

    normalise = k.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    if name == "autoaugment":
        share = CUTOUT**2 / size**2
        erase = k.RandomErasing(scale=(share, share), ratio=(1.0, 1.0), p=1.0)
        crop = [k.RandomCrop((size, size), padding=4), k.RandomHorizontalFlip()]
        return nn.Sequential(*crop, AutoAugment("cifar10"), erase, normalise)
    colors = (options.brightness, options.contrast, options.saturation, options.hue)
    steps: list[nn.Module] = [
        k.RandomResizedCrop((size, size), scale=(options.min_scale, 1.0), resample="BICUBIC"),
        k.RandomHorizontalFlip(),
        k.ColorJitter(*colors, p=options.jitter_probability),
        k.RandomGrayscale(p=options.gray_probability),
    ]
    if options.blur_probability:
        kernel, sigma = size // 10 | 1, (options.min_sigma, options.max_sigma)
        steps.append(k.RandomGaussianBlur((kernel, kernel), sigma, p=options.blur_probability))
    if name == "boosted":
        steps.append(RandAugment(n=2, m=MAGNITUDE))
    return nn.Sequential(*steps, normalise)


def our_view(name: str, options: ViewOptions, size: int) -> nn.Module:
    """The view that trains."""
    images = ImageSpec(size, MEAN, STD)
    if name == "boosted":
        return BoostedView(options, images, num_ops=2, rule="released")
    if name == "autoaugment":
        return ClassifierView(images, policy="cifar10", cutout=CUTOUT, flip_probability=0.5)
    return ContrastiveView(options, images)


def microseconds(name: str, options: ViewOptions, images: Tensor, size: int, rounds: int) -> Rows:
    """Of processor time a view, of every library."""
    count = len(images)
    pillow = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    keys = sample_keys(torch.arange(count), seed=0, epoch=0, view=0)
    ours, strength = our_view(name, options, size), torch.ones(count)

    def one_by_one(view: Callable[[Any], Tensor], samples: Any) -> Tensor:
        return torch.stack([view(sample) for sample in samples])

    makers: dict[str, Callable[[], Tensor]] = {
        "ssl_lt": lambda: ours(images, keys, strength),
        "torchvision v1, Pillow": partial(
            one_by_one, torchvision_view(v1, name, options, size), pillow
        ),
        "torchvision v2, tensors": partial(
            one_by_one, torchvision_view(v2, name, options, size), images
        ),
    }
    if importlib.util.find_spec("kornia") is not None:
        kornia = kornia_view(name, options, size)
        makers["kornia, one draw a batch"] = lambda: kornia(images.float() / 255)
    seconds = in_turn(makers, rounds=rounds, warm_up=2, clock=time.process_time)
    return {
        f"{name}: {library}": {
            "microseconds": 1e6 * spent / count,
            "times ours": spent / seconds["ssl_lt"],
        }
        for library, spent in seconds.items()
    }


def small(*, quick: bool) -> Rows:
    """Views of 32 px."""
    images, rounds = smooth_images(256, 32), 1 if quick else 40
    rows: Rows = {}
    for name in ("simclr", "boosted", "autoaugment"):
        rows |= microseconds(name, SMALL_IMAGE_VIEW, images, 32, rounds)
    return rows


def large(*, quick: bool) -> Rows:
    """SimCLR's view of 224 px."""
    images = smooth_images(16, 256)
    return microseconds("simclr", LARGE_IMAGE_VIEW, images, LARGE, 1 if quick else 8)


def write_photographs(root: Path, *, width: int, height: int, count: int) -> None:
    """JPEG files in a sub-folder, as ImageFolder wants them."""
    (root / "all").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = np.full((height, width, 3), 128, dtype=np.float32)
        for cell, contrast in ((1, 5), (4, 5), (64, 40)):  # pixels a grain
            shape = (height // cell + 1, width // cell + 1)
            grain = Image.fromarray(random.normal(0, contrast, shape).astype(np.float32))
            pixels += np.asarray(grain.resize((width, height), Image.Resampling.BICUBIC))[..., None]
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(root / "all" / f"{number:05}.jpg", quality=90)


def read_tensor(path: str) -> Tensor:
    """(3, H, W) uint8, decoded by torchvision."""
    return decode_image(read_file(path), mode=ImageReadMode.RGB)


class TwoViews:
    """Both views of one image."""

    def __init__(self, view: Callable[[Any], Tensor]) -> None:
        self.view = view

    def __call__(self, image: Any) -> list[Tensor]:
        """[(3, S, S), (3, S, S)] float32."""
        return [self.view(image), self.view(image)]


def torchvision_epoch(name: str, root: Path, count: int) -> None:
    """An epoch of a DataLoader with torchvision's transforms."""
    version = {"v1": v1, "v2": v2}[name]
    view = TwoViews(torchvision_view(version, "simclr", LARGE_IMAGE_VIEW, LARGE))
    own = {} if version is v1 else {"loader": read_tensor}
    for views, _ in DataLoader(ImageFolder(root, view, **own), BATCH_SIZE, num_workers=1):
        assert views[1].shape[1:] == (3, LARGE, LARGE)


def our_epoch(root: Path, count: int) -> None:
    """An epoch as `pretrain.py` makes it, without the network."""
    keep_freed_memory()
    crop = WorkerCrop((LARGE_IMAGE_VIEW, LARGE_IMAGE_VIEW), seed=0)
    data = open_data(
        DataOptions(data=f"folder:{root}", label_column="none", cache_mib=0, num_workers=1)
    )
    plan = BatchSchedule(count, BATCH_SIZE, seed=0)
    view = ContrastiveView(LARGE_IMAGE_VIEW, ImageSpec(LARGE, MEAN, STD))
    for batch in train_loader(data, plan, crop, device=torch.device("cpu")).epoch(0):
        for number in range(2):
            keys = sample_keys(batch.drawn, seed=0, epoch=0, view=number)
            view.after_crop(batch.images[:, number], keys)


def images_per_second(epoch: Callable[[Path, int], None], root: Path, count: int) -> float:
    """Images per processor second of this process and its worker, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    # A process that was spawned would spawn its worker, which would import everything anew.
    set_start_method("fork", force=True)
    start = _processor_seconds()
    epoch(root, count)
    return count / (_processor_seconds() - start)


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def jpeg(*, quick: bool) -> Rows:
    """From JPEG files to two views."""
    epochs = {
        "ssl_lt": our_epoch,
        "torchvision v1, Pillow": partial(torchvision_epoch, "v1"),
        "torchvision v2, tensors": partial(torchvision_epoch, "v2"),
    }
    rows: Rows = {name: {} for name in epochs}
    with tempfile.TemporaryDirectory() as place:
        for width, height, count in ((500, 375, 1000), (2000, 1500, 100)):
            count, root = BATCH_SIZE if quick else count, Path(place) / str(width)
            write_photographs(root, width=width, height=height, count=count)
            found: dict[str, list[float]] = {name: [] for name in epochs}
            for _ in range(1 if quick else 3):
                for name, rates in found.items():
                    rates.append(in_new_process(images_per_second, epochs[name], root, count))
            for name, rates in found.items():
                rows[name][f"{width} x {height}"] = median(rates)
    return rows


WHAT = {"small": small, "large": large, "jpeg": jpeg}


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    arguments = parser(__doc__, WHAT).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    report(WHAT[arguments.what](quick=arguments.quick), json_path=arguments.json)


if __name__ == "__main__":
    main()
