"""How fast training is, on the images of the digits (32 px, every image of the training set).

    python benchmarks/train.py --what throughput    images/s of pretrain.py, beside a plain loop
    python benchmarks/train.py --what methods       milliseconds a step of each pretraining method
    python benchmarks/train.py --what finetune      milliseconds a step of each kind of loss
    python benchmarks/train.py --what streaming     images/s from tar shards, beside memory

- end to end: a step from the loader to the update, as the training loop does it;
- ready views: the same step on one fixed batch of views that were made before;
- plain loop: the same network in fp32, torchvision's transforms on Pillow images, a DataLoader
  with a worker a core, lightly's NT-Xent.

An image counts once, though two views of it are made. What a method does once an epoch (SDCLR's
mask, the weights of the boost) is in no step.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import count, repeat
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _process import in_new_process, in_turn, parser, report
from lightly.loss import NTXentLoss
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ssl_lt.augment.views import WorkerCrop
from ssl_lt.core.precision import resolve_precision
from ssl_lt.core.random import sample_keys
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, Epoch, Loader
from ssl_lt.data.dataset import Data, open_data, train_loader
from ssl_lt.data.images.crops import Crop
from ssl_lt.engine.allocator import keep_freed_memory
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.runs.build import finetuning, pretraining
from ssl_lt.runs.build.batches import batch_plan
from ssl_lt.runs.build.views import worker_crop
from ssl_lt.runs.config.finetune import AnyFinetuneConfig, default_config, kind_of
from ssl_lt.runs.config.parse import parse
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.pretrain import pretrain

METHODS = {
    "SimCLR": "--method simclr",
    "SDCLR": "--method sdclr",
    "BCL-I": "--plugins bcl",
    "BCL-D": "--method sdclr --plugins bcl --bcl.num-ops 2",
    "GH": "--plugins gh",
    "BCL+GH": "--plugins bcl gh",
}
LOSSES = ("ce", "la", "scl", "bcl", "rcl", "bcl_rcl")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Rows = dict[str, dict[str, float]]


def pretraining_config(words: list[str]) -> PretrainConfig:
    """The configuration of `pretrain.py` with these flags."""
    return parse(PretrainConfig, words, default=PretrainConfig())


def images_per_second(words: list[str]) -> float:
    """Of the second of two epochs of `pretrain.py`; the first one warms up."""
    with tempfile.TemporaryDirectory() as place:
        flags = ["--epochs", "2", "--warmup-epochs", "0", "--knn-every", "0"]
        config = pretraining_config([*words, *flags, "--run-dir", f"{place}/run"])
        timing = pretrain(config).timing.read_text()
    return float(json.loads(timing.splitlines()[1])["images_per_second"])


class FixedView(nn.Module):
    """Gives views that were made before."""

    def __init__(self, views: Tensor) -> None:
        super().__init__()
        self.register_buffer("views", views)

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The views, whatever is asked for."""
        return self.views

    def after_crop(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The same, of images that a loader worker cropped."""
        return self.views


def stepper(task: TrainTask, batches: Iterator[Batch]) -> Callable[[], None]:
    """A function that does one step, checked as the training loop checks it."""
    optimizer = build_optimizer(task, OptimOptions())
    mixed = resolve_precision("auto", DEVICE) == "bf16"

    def step() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=mixed):
            output = task(next(batches))
        output.loss.backward()
        grads = [p.grad for p in task.parameters() if p.grad is not None]
        assert torch.nn.utils.get_total_norm(grads).isfinite()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def endless(loader: Loader) -> Iterator[Batch]:
    """One epoch after the other."""
    for number in count():
        yield from loader.epoch(number)


def on_device(task: TrainTask, epochs: int) -> TrainTask:
    """A task in its last epoch: harmonization assigns, samples have weights from 0.5 to 1."""
    task = task.to(DEVICE).to(memory_format=torch.channels_last)
    for memory in task.memories():
        memory.to(DEVICE)
        if memory.name == "boost":
            memory.tables["weight"].uniform_(0.5, 1)
        if memory.name == "class_prior":
            prior = memory.tables["prior"]
            memory.tables["prior"] = torch.full_like(prior, 1 / len(prior))
    task.train()
    task.on_epoch_start(Epoch(number=epochs - 1, total=epochs, steps=1))
    return task


def both_steppers(
    config: PretrainConfig | AnyFinetuneConfig,
    build: Callable[[Data], TrainTask],
    crop: Callable[[Data], Crop],
) -> dict[str, Callable[[], None]]:
    """A step end to end, and the same on ready views."""
    data = open_data(config.data)
    plan = batch_plan(config.run, config.fit, data)
    loader = train_loader(data, plan, crop(data), device=DEVICE)
    task, ready = (on_device(build(data), config.fit.epochs) for _ in range(2))
    batch = next(loader.epoch(0))
    keys = sample_keys(batch.index, seed=0, epoch=0, view=0)
    strength = torch.full((len(batch),), 0.75, device=DEVICE)
    for name in ("view", "contrast_view"):
        if (view := getattr(ready, name, None)) is not None:
            cropped = batch.images.ndim == 5
            images = batch.images[:, 0] if cropped else batch.images
            make = view.after_crop if cropped else view
            made = make(images, keys, strength) if name == "view" else make(images, keys)
            setattr(ready, name, FixedView(made))
    return {
        "end to end": stepper(task, endless(loader)),
        "ready views": stepper(ready, repeat(batch)),
    }


def pretraining_steppers(config: PretrainConfig) -> dict[str, Callable[[], None]]:
    """`both_steppers` of a pretraining."""
    crop = WorkerCrop((config.view, config.view), seed=0)
    return both_steppers(config, lambda data: pretraining.build_task(config, data), lambda _: crop)


def methods(common: list[str], rounds: int) -> Rows:
    """Milliseconds a step of each pretraining method."""
    candidates = {}
    for name, words in METHODS.items():
        config = pretraining_config([*common, *words.split()])
        steps = pretraining_steppers(config)
        candidates |= {(name, kind): step for kind, step in steps.items()}
    return _steps(candidates, rounds, first="SimCLR")


def finetune(common: list[str], rounds: int) -> Rows:
    """Milliseconds a step of each loss: `la` has one view, the contrasts have three."""
    candidates = {}
    for loss in LOSSES:
        words = [*common, "--loss", loss, "--epochs", "40", "--augment", "autoaugment"]
        config = parse(kind_of(loss), words, default=default_config(loss))
        steps = both_steppers(
            config,
            lambda data, c=config: finetuning.build_task(c, data),
            lambda data, c=config: worker_crop(c, data.spec),
        )
        candidates |= {(loss, kind): step for kind, step in steps.items()}
    return _steps(candidates, rounds, first="la")


def _steps(candidates: dict[tuple[str, str], Callable[[], None]], rounds: int, first: str) -> Rows:
    seconds = in_turn({str(key): step for key, step in candidates.items()}, rounds=rounds)
    rows: Rows = {}
    for key in candidates:
        rows.setdefault(key[0], {})[f"{key[1]}, ms"] = 1e3 * seconds[str(key)]
    for row in rows.values():
        row["views, %"] = 100 * (1 - row["ready views, ms"] / row["end to end, ms"])
        row[f"times {first}"] = row["end to end, ms"] / rows[first]["end to end, ms"]
    return rows


class PillowViews(Dataset):
    """What released code does: one image at a time, two views of it."""

    def __init__(self, pixels: Tensor) -> None:
        self.images = [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).numpy()]
        self.view = transforms.Compose(
            [
                transforms.RandomResizedCrop(
                    32, (0.1, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
                ),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                transforms.RandomGrayscale(0.2),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.view(self.images[row]), self.view(self.images[row])


def plain_images_per_second(words: list[str]) -> float:
    """Of an ordinary loop, after a step of warming up."""
    config = pretraining_config(words)
    data = open_data(config.data)
    task = pretraining.build_task(config, data)
    module = nn.Sequential(task.backbone, task.projector).to(DEVICE)
    criterion = NTXentLoss(temperature=0.2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    batch_size, done, steps = config.fit.batch_size, 0, 3
    loader = DataLoader(
        PillowViews(data.train.pixels), batch_size, shuffle=True, drop_last=True,
        num_workers=os.cpu_count() or 1,
    )  # fmt: skip
    while True:
        for x1, x2 in loader:
            if done == 1:
                started_at = time.perf_counter()
            loss = criterion(module(x1.to(DEVICE)), module(x2.to(DEVICE)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps + 1:
                loss.item()  # waits for the device
                return steps * batch_size / (time.perf_counter() - started_at)


def throughput(common: list[str], rounds: int) -> Rows:
    """Images/s of `pretrain.py`, of its steps on ready views, and of a plain loop."""
    config = pretraining_config(common)
    steps = pretraining_steppers(config)
    seconds = in_turn({"ready views": steps["ready views"]}, rounds=2 * rounds)
    found: dict[str, list[float]] = {"end to end": [], "plain loop": []}
    for _ in range(rounds):
        found["end to end"].append(in_new_process(images_per_second, common))
        found["plain loop"].append(in_new_process(plain_images_per_second, common))
    row = {name: median(rates) for name, rates in found.items()}
    row["ready views"] = config.fit.batch_size / seconds["ready views"]
    row["times plain"] = row["end to end"] / row["plain loop"]
    return {f"{config.model.backbone}, images/s": row}


def write_shards(place: Path, *, num_images: int, images_per_shard: int = 200) -> None:
    """PNGs of noise in tar files; a PNG cannot shrink noise, so no image is larger to read."""
    pixels = np.random.default_rng(0).integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)
    for start in range(0, num_images, images_per_shard):
        with tarfile.open(place / f"{start:07d}.tar", "w") as tar:
            for row, image in enumerate(pixels[start : start + images_per_shard], start=start):
                blob = BytesIO()
                Image.fromarray(image).save(blob, "PNG")
                info = tarfile.TarInfo(f"{row:09d}.png")
                info.size = blob.tell()
                blob.seek(0)
                tar.addfile(info, blob)


def streaming(common: list[str], rounds: int) -> Rows:
    """Images/s of the same images from tar shards and from memory, each run in its own process."""
    with tempfile.TemporaryDirectory() as place:
        write_shards(Path(place), num_images=1536)
        data = ["--data", f"wds:{place}", "--image-size", "32", "--num-workers", "1"]
        words = [*common, *data, "--shard-cache", f"{place}/cache"]
        found: dict[str, list[float]] = {"memory": [], "shards": []}
        for _ in range(rounds):
            for kind, rates in found.items():
                limit = ["--cache-mib", "1024" if kind == "memory" else "0"]
                rates.append(in_new_process(images_per_second, [*words, *limit]))
    row = {kind: median(rates) for kind, rates in found.items()}
    return {"images/s": {**row, "of memory, %": 100 * row["shards"] / row["memory"]}}


WHAT = {what.__name__: what for what in (throughput, methods, finetune, streaming)}


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    flags = parser(__doc__, WHAT)
    flags.add_argument("--backbone", default="resnet18_cifar")
    flags.add_argument("--batch-size", type=int, default=256)
    arguments = flags.parse_args()
    if DEVICE.type == "cpu":
        keep_freed_memory()
    common = ["--backbone", arguments.backbone, "--batch-size", str(arguments.batch_size)]
    common += ["--imbalance", "none"]
    report(WHAT[arguments.what](common, 1 if arguments.quick else 5), json_path=arguments.json)


if __name__ == "__main__":
    main()
