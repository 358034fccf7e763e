"""Microseconds of one core per SimCLR view: ours against torchvision, in one run.

Ours makes a view of a whole batch, torchvision (v1 on Pillow images, v2 on tensors) one image at a
time, because it draws one set of parameters for all the images it is given. Processor time is
counted, not wall time, so that other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

from ssl_lt.augment.views import (
    LARGE_IMAGE_VIEW,
    SMALL_IMAGE_VIEW,
    ContrastiveView,
    ViewOptions,
)
from ssl_lt.core.random import sample_keys

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pipeline(ops, options: ViewOptions, size: int, tail: list):
    """Torchvision's SimCLR transform of the same strength; `ops` is v1 or v2."""
    colors = (options.brightness, options.contrast, options.saturation, options.hue)
    steps = [
        ops.RandomResizedCrop(
            size, (options.min_scale, 1.0), interpolation=InterpolationMode.BICUBIC
        ),
        ops.RandomHorizontalFlip(),
        ops.RandomApply([ops.ColorJitter(*colors)], p=options.jitter_probability),
        ops.RandomGrayscale(options.gray_probability),
    ]
    if options.blur_probability:
        blur = ops.GaussianBlur(size // 10 | 1, (options.min_sigma, options.max_sigma))
        steps.append(ops.RandomApply([blur], p=options.blur_probability))
    return ops.Compose([*steps, *tail, ops.Normalize(MEAN, STD)])


def microseconds(make_views: Callable[[], object], num_views: int, rounds: int) -> dict[str, float]:
    """Best and median processor time over the rounds, per view; two rounds warm up."""
    seconds = []
    for _ in range(rounds + 2):
        start = time.process_time()
        make_views()
        seconds.append(time.process_time() - start)
    per_view = [1e6 * s / num_views for s in seconds[2:]]
    return {"best": round(min(per_view), 1), "median": round(median(per_view), 1)}


def compare(
    options: ViewOptions, size: int, batch: int, source: int, rounds: int
) -> dict[str, dict]:
    """Times of views of one size; `source` is the edge of the images that are cropped."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (batch, 3, source, source), dtype=torch.uint8, generator=generator
    )
    keys = sample_keys(torch.arange(batch), seed=0, epoch=0, view=0)
    ours = ContrastiveView(options, size=size, mean=MEAN, std=STD)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    on_pillow = pipeline(v1, options, size, [v1.ToTensor()])
    on_tensors = pipeline(v2, options, size, [v2.ToDtype(torch.float32, scale=True)])

    def one_by_one(transform: Callable, samples: list | Tensor) -> Callable[[], Tensor]:
        return lambda: torch.stack([transform(sample) for sample in samples])

    return {
        "ssl_lt": microseconds(lambda: ours(images, keys), batch, rounds),
        "ssl_lt, cropped by workers": microseconds(
            lambda: ours.after_crop(images[..., :size, :size], keys),
            batch,
            rounds,
        ),
        "torchvision v1, Pillow": microseconds(one_by_one(on_pillow, pictures), batch, rounds),
        "torchvision v2, tensors": microseconds(one_by_one(on_tensors, images), batch, rounds),
    }


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, a few seconds")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    small, large = (8, 2) if arguments.quick else (40, 8)
    results = {
        "32 px, batch 256": compare(SMALL_IMAGE_VIEW, 32, 256, 32, small),
        "224 px from 256 px, batch 16": compare(LARGE_IMAGE_VIEW, 224, 16, 256, large),
    }
    for title, rows in results.items():
        print(f"{title}: microseconds per view, one core")
        for name, row in rows.items():
            print(f"  {name:28s} best {row['best']:9.1f}   median {row['median']:9.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
