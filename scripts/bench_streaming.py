"""Images per second of SimCLR pretraining from tar shards, and from memory, in one run.

Both are the training loop of `pretrain.py` on the same images, as PNGs in shards that a loader
worker reads in `ShardPlan`'s order, or as pixels in memory. Noise as content: a PNG cannot shrink
it, so that no image is larger to read.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from bench_throughput import MEAN, STD, ours, train_loader
from new_process import in_new_process
from PIL import Image
from torch import Tensor

from ssl_lt.augment.views import SMALL_IMAGE_VIEW, ContrastiveView, WorkerCrop
from ssl_lt.core.precision import resolve_precision
from ssl_lt.core.types import Loader
from ssl_lt.data.loading.shard_plan import epoch_plan
from ssl_lt.data.loading.worker_loader import WorkerLoader
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.options import DataOptions, SourceOptions
from ssl_lt.data.sources.registry import open_source


def write_shards(pixels: Tensor, place: Path, *, images_per_shard: int) -> None:
    """PNGs in tar files."""
    for start in range(0, len(pixels), images_per_shard):
        with tarfile.open(place / f"{start:07d}.tar", "w") as tar:
            for row, image in enumerate(pixels[start : start + images_per_shard], start=start):
                blob = BytesIO()
                Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(blob, "PNG")
                info = tarfile.TarInfo(f"{row:09d}.png")
                info.size = blob.tell()
                blob.seek(0)
                tar.addfile(info, blob)


def shard_loader(place: Path, batch_size: int, workers: int, device: torch.device) -> WorkerLoader:
    """Two rectangles of each image, as `pretrain.py` has them cut."""
    source = open_source(f"wds:{place}", SourceOptions(shard_cache=place / "cache"))
    table = source.train()
    plan = epoch_plan(table, np.arange(len(table)), DataOptions(), batch_size=batch_size, seed=0)
    crop = WorkerCrop(SMALL_IMAGE_VIEW, seed=0, num_views=2)
    return WorkerLoader(table, crop, plan, size=32, device=device, workers=Workers(workers))


def rate(
    kind: str, backbone: str, pixels: Tensor, place: Path, batch_size: int, workers: int
) -> float:
    """Images/s of training from `memory` or from the `shards` in a folder."""
    accelerator = Accelerator(mixed_precision=resolve_precision("auto", PartialState().device))
    device = accelerator.device
    view = ContrastiveView(SMALL_IMAGE_VIEW, size=32, mean=MEAN, std=STD)
    loader: Loader
    if kind == "memory":
        loader = train_loader(pixels, batch_size, device)
    else:
        loader = shard_loader(place, batch_size, workers, device)
    return ours(backbone, view, loader, accelerator)


def measure(
    backbone: str, *, batch_size: int, steps: int, rounds: int, workers: int
) -> dict[str, float]:
    """Medians over the rounds, which take both in turn.

    Each in a process of its own, as a run is: a worker that is forked where an earlier run has left
    gigabytes of freed blocks has the system copy each of them when training writes to it.
    """
    shape = (batch_size * steps, 3, 32, 32)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    found: dict[str, list[float]] = {"memory": [], "shards": []}
    with tempfile.TemporaryDirectory() as place:
        write_shards(pixels, Path(place), images_per_shard=200)
        for _ in range(rounds):
            for kind, rates in found.items():
                arguments = (kind, backbone, pixels, Path(place), batch_size, workers)
                rates.append(in_new_process(rate, *arguments))
    return {kind: median(rates) for kind, rates in found.items()}


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet18_cifar", "resnet32_cifar"])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    results = {}
    print(f"{'images/s':16s} {'memory':>8s} {'shards':>8s} {'of memory':>10s}")
    for backbone in arguments.backbones:
        rates = results[backbone] = measure(
            backbone,
            batch_size=arguments.batch_size,
            steps=4 if "18" in backbone else 16,
            rounds=1 if arguments.quick else 5,
            workers=arguments.workers,
        )
        print(f"{backbone:16s} {rates['memory']:8.1f} {rates['shards']:8.1f}"
              f" {100 * rates['shards'] / rates['memory']:9.1f}%", flush=True)  # fmt: skip
    print(f"{torch.get_num_threads()} threads, {arguments.workers} workers, "
          f"batch {arguments.batch_size}")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
