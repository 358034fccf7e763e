"""Microseconds of one core per view: ours against other libraries, in one run.

Three sets of operations, on 32-pixel images: SimCLR's view; the boosted view, which adds two
operations of RandAugment at full strength; crop, flip, AutoAugment and Cutout. And SimCLR's view of
224 pixels, cropped from 256.

- ours makes the views of a whole batch, each sample with draws of its own;
- torchvision (v1 on Pillow images, v2 on tensors) and timm (Pillow) take one image at a time,
  because they draw one set of parameters for all the images they are given;
- kornia takes the batch, but its RandAugment and AutoAugment draw the operations once for all of
  it. That is a row of its own; for operations drawn for each image, as everywhere else here, those
  two have to be called image by image. Neither knows a strength a sample.

"Compiled" is our view as `--compile` runs it, where there is a compiler; what that takes is not in
the figure. Each library has its own RandAugment and AutoAugment; magnitudes are set alike, ranges
differ a little. timm has no AutoAugment policy for CIFAR: its "original" one, for ImageNet, has as
many operations. Processor time is counted, not wall time, so that other programs disturb less.
Freed memory is kept, as the training loop does. kornia is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

from ssl_lt.augment.boosted import BoostedView
from ssl_lt.augment.classifier_view import ClassifierView
from ssl_lt.augment.views import LARGE_IMAGE_VIEW, SMALL_IMAGE_VIEW, ContrastiveView, ViewOptions
from ssl_lt.core.random import sample_keys
from ssl_lt.engine.allocator import keep_freed_memory

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAGNITUDE = 15
CUTOUT = 16


@dataclass(frozen=True)
class Pictures:
    """The same images for every library."""

    tensors: Tensor
    pillow: list[Image.Image]

    @classmethod
    def drawn(cls, count: int, size: int) -> Pictures:
        """Smooth random pictures: flat noise would spare the histograms nothing and hide rims."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(count, 3, 8, 8, generator=generator)
        smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
        tensors = (255 * smooth).to(torch.uint8)
        return cls(tensors, [Image.fromarray(t.permute(1, 2, 0).numpy()) for t in tensors])


def simclr_steps(ops: Any, options: ViewOptions, size: int) -> list[Any]:
    """Torchvision's operations of a SimCLR view of the same strength; `ops` is v1 or v2."""
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
    return steps


def torchvision_steps(ops: Any, name: str, options: ViewOptions, size: int) -> tuple[list, list]:
    """What comes before and what comes after an image is a normalised float tensor."""
    if name == "simclr":
        return simclr_steps(ops, options, size), []
    if name == "boosted":
        boost = ops.RandAugment(num_ops=2, magnitude=MAGNITUDE)
        return [*simclr_steps(ops, options, size), boost], []
    auto = ops.AutoAugment(ops.AutoAugmentPolicy.CIFAR10)
    crop = [ops.RandomCrop(size, padding=4), ops.RandomHorizontalFlip(), auto]
    share = CUTOUT**2 / size**2
    return crop, [ops.RandomErasing(p=1.0, scale=(share, share), ratio=(1.0, 1.0))]


def timm_steps(name: str, options: ViewOptions, size: int) -> tuple[list, list] | None:
    """Pillow operations of timm in torchvision's pipeline; None where it has none of its own."""
    if name == "simclr":
        return None
    before, after = torchvision_steps(v1, name, options, size)
    own = (
        rand_augment_transform(f"rand-m{MAGNITUDE}-n2", {})
        if name == "boosted"
        else auto_augment_transform("original", {})
    )
    return [*before[:-1], own], after


def for_the_batch(policy: nn.Module) -> nn.Module:
    """The policy as it is: what it draws holds for all images that it is given."""
    return policy


class ForEachImage(nn.Module):
    """Calls a policy with one image at a time, so that each gets operations of its own."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images, each changed by itself."""
        return torch.cat([self.policy(image) for image in images.split(1)])


def kornia_view(
    name: str, options: ViewOptions, size: int, *, drawn_for: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    """A batched pipeline of kornia; `drawn_for` says what a policy draws its operations for."""
    import kornia.augmentation as k
    from kornia.augmentation.auto import AutoAugment, RandAugment

    normalise = k.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    if name == "classifier":
        share = CUTOUT**2 / size**2
        erase = k.RandomErasing(scale=(share, share), ratio=(1.0, 1.0), p=1.0)
        crop = [k.RandomCrop((size, size), padding=4), k.RandomHorizontalFlip()]
        return nn.Sequential(*crop, drawn_for(AutoAugment("cifar10")), erase, normalise)
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
        steps.append(drawn_for(RandAugment(n=2, m=MAGNITUDE)))
    return nn.Sequential(*steps, normalise)


def our_view(name: str, options: ViewOptions, size: int) -> nn.Module:
    """The view that trains."""
    picture: dict[str, Any] = {"size": size, "mean": MEAN, "std": STD}
    if name == "simclr":
        return ContrastiveView(options, **picture)
    if name == "boosted":
        return BoostedView(options, num_ops=2, rule="released", **picture)
    return ClassifierView(policy="cifar10", cutout=CUTOUT, **picture)


def compare(
    name: str, options: ViewOptions, *, pictures: Pictures, size: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Microseconds a view of every library that has the operations."""
    count = len(pictures.pillow)
    keys = sample_keys(torch.arange(count), seed=0, epoch=0, view=0)
    ours, strength = our_view(name, options, size), torch.ones(count)

    def one_by_one(steps: tuple[list, list], samples: Any, to_float: Any) -> Callable[[], Tensor]:
        before, after = steps
        view = v1.Compose([*before, to_float, v1.Normalize(MEAN, STD), *after])
        return lambda: torch.stack([view(sample) for sample in samples])

    def batched(view: nn.Module) -> Tensor:
        return view(pictures.tensors.float() / 255)

    on_tensors = v2.ToDtype(torch.float32, scale=True)
    steps = partial(torchvision_steps, name=name, options=options, size=size)
    makers: dict[str, Callable[[], Tensor]] = {
        "ssl_lt": lambda: ours(pictures.tensors, keys, strength)
    }
    if name == "simclr":
        if size == 32 and shutil.which("g++"):
            compiled = torch.compile(ours)
            makers["ssl_lt, compiled"] = lambda: compiled(pictures.tensors, keys)
        crops = pictures.tensors[..., :size, :size]
        makers["ssl_lt, cropped by workers"] = lambda: ours.after_crop(crops, keys)
    if importlib.util.find_spec("kornia") is not None:
        kornia = partial(kornia_view, name, options, size)
        if name == "simclr":
            makers["kornia"] = partial(batched, kornia(drawn_for=for_the_batch))
        else:
            makers["kornia, one draw a batch"] = partial(batched, kornia(drawn_for=for_the_batch))
            makers["kornia, a draw an image"] = partial(batched, kornia(drawn_for=ForEachImage))
    makers["torchvision v1, Pillow"] = one_by_one(steps(v1), pictures.pillow, v1.ToTensor())
    makers["torchvision v2, tensors"] = one_by_one(steps(v2), pictures.tensors, on_tensors)
    timm = timm_steps(name, options, size)
    if timm is not None:
        makers["timm, Pillow"] = one_by_one(timm, pictures.pillow, v1.ToTensor())
    return in_turn(makers, count, rounds)


def in_turn(
    makers: dict[str, Callable[[], object]], num_views: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Best and median processor time over the rounds, per view; two rounds warm up.

    In each round all take their turn, and what one takes is held against the first's of the same
    round, so that it does not matter if the machine slows down for a while.
    """
    times: dict[str, list[float]] = {title: [] for title in makers}
    for _ in range(rounds + 2):
        for title, make in makers.items():
            start = time.process_time()
            make()
            times[title].append(1e6 * (time.process_time() - start) / num_views)
    kept = {title: of_title[2:] for title, of_title in times.items()}
    first = next(iter(kept.values()))
    return {
        title: {
            "best": round(min(row), 1),
            "median": round(median(row), 1),
            "times ours": round(median(a / b for a, b in zip(row, first, strict=True)), 1),
            "times ours, best": round(min(row) / min(first), 1),
        }
        for title, row in kept.items()
    }


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, half a minute")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    small, large = (8, 2) if arguments.quick else (40, 8)
    at_32, at_224 = Pictures.drawn(256, 32), Pictures.drawn(16, 256)
    of_32 = partial(compare, options=SMALL_IMAGE_VIEW, pictures=at_32, size=32, rounds=small)
    results = {
        "SimCLR, 32 px, batch 256": of_32("simclr"),
        "boosted, two operations, 32 px, batch 256": of_32("boosted"),
        "AutoAugment and Cutout, 32 px, batch 256": of_32("classifier"),
        "SimCLR, 224 px from 256 px, batch 16": compare(
            "simclr", LARGE_IMAGE_VIEW, pictures=at_224, size=224, rounds=large
        ),
    }
    for title, rows in results.items():
        print(f"{title}: microseconds per view, one core")
        for name, row in rows.items():
            print(
                f"  {name:28s} best {row['best']:9.1f}   median {row['median']:9.1f}   "
                f"times ours {row['times ours']:6.1f}, best {row['times ours, best']:6.1f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
