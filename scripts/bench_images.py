"""Images per second of one core from JPEG files to two normalised views, in one run.

- ours: a worker decodes each file and cuts both crops; flips, colours and blur are batched on the
  device, here the CPU, and its time counts;
- ours, workers alone: the same without the device's part, as where the device is not a core;
- ours, no draft: as the first, every JPEG decoded in full;
- torchvision v1, Pillow: the ordinary pipeline of released codes. ImageFolder, a worker that makes
  both views of one image at a time, bicubic crops, Pillow's Gaussian blur, fp32 batches;
- torchvision v2, tensors: the same steps on uint8 tensors that torchvision decoded.

The pictures are CIFAR-10's, enlarged bicubically, with noise at three scales, JPEG quality 90:
2,000 of 500 x 375 pixels (ImageNet's mean size), and fewer of 2000 x 1500.

Each measurement is a process of its own with one worker, both bound to the same core with a thread
each. Processor time of both counts, not wall time, so that other programs disturb less: its inverse
is what one core does. Candidates take turns; medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import set_start_method
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from new_process import in_new_process
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import InterpolationMode, v2

from ssl_lt.augment.views import LARGE_IMAGE_VIEW, ContrastiveView, WorkerCrop
from ssl_lt.core.random import sample_keys
from ssl_lt.data.images.decode import EncodedImage
from ssl_lt.data.loading.plan import BatchPlan
from ssl_lt.data.loading.worker_loader import WorkerLoader
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.registry import open_source
from ssl_lt.data.tables.files import FileTable
from ssl_lt.engine.allocator import keep_freed_memory

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, BATCH_SIZE = 224, 50
OPTIONS = LARGE_IMAGE_VIEW


@dataclass(frozen=True)
class Photographs:
    """Files of one size.

    Attributes:
        root: folder with a sub-folder of files, as ImageFolder wants it.
        width: of each, in pixels.
        height: likewise.
        count: how many.
    """

    root: Path
    width: int
    height: int
    count: int

    def table(self) -> FileTable:
        """The files as the project sees them."""
        names = sorted(f"all/{path.name}" for path in (self.root / "all").iterdir())
        labels = torch.zeros(len(names), dtype=torch.int64)
        return FileTable(self.root, np.array(names, dtype=np.bytes_), labels)


def write_photographs(photographs: Photographs, pictures: Tensor) -> None:
    """Enlarges small pictures (N, 3, H, W) uint8 and gives them texture."""
    folder = photographs.root / "all"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    size = (photographs.width, photographs.height)
    for number in range(photographs.count):
        picture = Image.fromarray(pictures[number].permute(1, 2, 0).numpy())
        pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        for cell in (1, 4, 16):  # pixels a grain
            grains = random.normal(0, 5, (size[1] // cell + 1, size[0] // cell + 1))
            grain = Image.fromarray(grains.astype(np.float32))
            large = grain.resize(size, Image.Resampling.BICUBIC)
            pixels = pixels + np.asarray(large)[:, :, None]
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{number:05}.jpg", quality=90)


class PillowBlur:
    """The blur of released codes: a radius drawn for each image."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image, blurred."""
        radius = OPTIONS.min_sigma + (OPTIONS.max_sigma - OPTIONS.min_sigma) * torch.rand(1).item()
        return image.filter(ImageFilter.GaussianBlur(radius))


def steps(ops: Any, blur: Callable[[Any], Any]) -> list[Any]:
    """Torchvision's operations of one view; `ops` is v1 or v2."""
    colors = (OPTIONS.brightness, OPTIONS.contrast, OPTIONS.saturation, OPTIONS.hue)
    return [
        ops.RandomResizedCrop(
            SIZE, (OPTIONS.min_scale, 1.0), interpolation=InterpolationMode.BICUBIC
        ),
        ops.RandomHorizontalFlip(),
        ops.RandomApply([ops.ColorJitter(*colors)], p=OPTIONS.jitter_probability),
        ops.RandomGrayscale(OPTIONS.gray_probability),
        ops.RandomApply([blur], p=OPTIONS.blur_probability),
    ]


@dataclass
class TwoViews:
    """Both views of one image."""

    view: Callable[[Any], Tensor]

    def __call__(self, image: Any) -> list[Tensor]:
        """[(3, S, S), (3, S, S)] float32."""
        return [self.view(image), self.view(image)]


def read_tensor(path: str) -> Tensor:
    """(3, H, W) uint8, decoded by torchvision."""
    return decode_image(read_file(path), mode=ImageReadMode.RGB)


def torchvision_views(photographs: Photographs, *, version: str) -> None:
    """An epoch of a DataLoader with torchvision's transforms."""
    if version == "v1":
        view = v1.Compose([*steps(v1, PillowBlur()), v1.ToTensor(), v1.Normalize(MEAN, STD)])
        data = ImageFolder(photographs.root, TwoViews(view))
    else:
        blur = v2.GaussianBlur(SIZE // 10 | 1, (OPTIONS.min_sigma, OPTIONS.max_sigma))
        to_float = v2.ToDtype(torch.float32, scale=True)
        view = v2.Compose([*steps(v2, blur), to_float, v2.Normalize(MEAN, STD)])
        data = ImageFolder(photographs.root, TwoViews(view), loader=read_tensor)
    for views, _ in DataLoader(data, BATCH_SIZE, shuffle=True, num_workers=1):
        assert views[1].shape == (BATCH_SIZE, 3, SIZE, SIZE)


def our_views(photographs: Photographs, *, on_device: bool) -> None:
    """An epoch as `pretrain.py` makes it, without the network."""
    keep_freed_memory()
    crop = WorkerCrop(OPTIONS, seed=0, num_views=2)
    plan = BatchPlan(photographs.count, BATCH_SIZE, seed=0)
    device = torch.device("cpu")
    loader = WorkerLoader(
        photographs.table(), crop, plan, size=SIZE, device=device, workers=Workers(1)
    )
    view = ContrastiveView(OPTIONS, size=SIZE, mean=MEAN, std=STD)
    for batch in loader.epoch(0):
        for number in range(2 if on_device else 0):
            keys = sample_keys(batch.drawn, seed=0, epoch=0, view=number)
            views = view.after_crop(batch.images[:, number], keys)
            assert views.shape == (BATCH_SIZE, 3, SIZE, SIZE)


def our_views_without_draft(photographs: Photographs) -> None:
    """The same, but every JPEG is decoded in full."""
    with mock.patch.object(EncodedImage, "decode_half", EncodedImage.decode):
        our_views(photographs, on_device=True)


def ours(photographs: Photographs) -> None:
    """Workers and device."""
    our_views(photographs, on_device=True)


def our_workers(photographs: Photographs) -> None:
    """Workers alone."""
    our_views(photographs, on_device=False)


def torchvision_v1(photographs: Photographs) -> None:
    """On Pillow images."""
    torchvision_views(photographs, version="v1")


def torchvision_v2(photographs: Photographs) -> None:
    """On tensors."""
    torchvision_views(photographs, version="v2")


CANDIDATES = {
    "ours": ours,
    "ours, workers alone": our_workers,
    "ours, no draft": our_views_without_draft,
    "torchvision v1, Pillow": torchvision_v1,
    "torchvision v2, tensors": torchvision_v2,
}


def images_per_second(candidate: Callable[[Photographs], None], photographs: Photographs) -> float:
    """Images per processor second of this process and its worker."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    # As on Linux by default; a process that was spawned would spawn its worker, which imports anew.
    set_start_method("fork", force=True)
    start = processor_seconds()
    candidate(photographs)
    return photographs.count / (processor_seconds() - start)


def processor_seconds() -> float:
    """Of this process and of those of its workers that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(photographs: Photographs, rounds: int) -> dict[str, dict[str, float]]:
    """Median, smallest and largest rate of each candidate, which take turns."""
    found: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    order = list(CANDIDATES)
    for number in range(rounds):
        first = number % len(order)  # each takes every place, as a machine may slow down in a round
        for name in order[first:] + order[:first]:
            found[name].append(in_new_process(images_per_second, CANDIDATES[name], photographs))
    plain = median(found["torchvision v1, Pillow"])
    return {
        name: {
            "images/s": round(median(rates), 1),
            "smallest": round(min(rates), 1),
            "largest": round(max(rates), 1),
            "times torchvision v1": round(median(rates) / plain, 2),
        }
        for name, rates in found.items()
    }


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="where --data cifar10 is found")
    parser.add_argument("--images", type=int, default=2000, help=f"a multiple of {10 * BATCH_SIZE}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="500 images, one round")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    count, rounds = (500, 1) if arguments.quick else (arguments.images, arguments.rounds)
    torch.set_num_threads(1)
    source = open_source("cifar10", SourceOptions(data_root=arguments.data_root))
    pictures = source.train().take(np.arange(count)).pixels
    results = {}
    with tempfile.TemporaryDirectory() as place:
        for width, height, share in ((500, 375, 1), (2000, 1500, 10)):
            photographs = Photographs(Path(place) / str(width), width, height, count // share)
            write_photographs(photographs, pictures)
            files = photographs.root.rglob("*.jpg")
            kib = sum(file.stat().st_size for file in files) / photographs.count / 1024
            title = f"{photographs.count} JPEGs of {width} x {height} pixels, {kib:.0f} KiB each"
            results[title] = compare(photographs, rounds)
            print(f"{title}: images/s of one core")
            for name, row in results[title].items():
                print(f"  {name:24s} {row['images/s']:7.1f}   "
                      f"({row['smallest']:.1f} to {row['largest']:.1f})   "
                      f"{row['times torchvision v1']:5.2f} times v1", flush=True)  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
