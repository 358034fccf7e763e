"""Images per second of SimCLR pretraining: four loops, measured in turn in one run.

- end to end: the training loop as `pretrain.py` runs it, views and log lines included;
- compute only: the same loop on one fixed batch of ready views;
- processes: end to end in as many processes as there are threads, one thread each (on CPUs; with
  one thread, or on other devices, left out);
- plain loop: the same network in fp32, torchvision transforms on Pillow images, a DataLoader with
  a worker a core, lightly's NT-Xent.

An image counts once, though two views of it are made. The images are synthetic: their content
plays no part.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from lightly.loss import NTXentLoss
from new_process import in_new_process
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ssl_lt.augment.views import SMALL_IMAGE_VIEW, ContrastiveView
from ssl_lt.core.precision import resolve_precision
from ssl_lt.core.types import Batch, Loader
from ssl_lt.data.loading.plan import BatchPlan, TrainLoader
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.plan import FitOptions, Plan
from ssl_lt.engine.schedule import ScheduleOptions
from ssl_lt.models.backbones import create_backbone, feature_dim
from ssl_lt.models.heads import ProjectorOptions, projector
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.simclr import SimCLR, SimCLROptions

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class FixedView(nn.Module):
    """Gives views that were made before."""

    def __init__(self, views: Tensor) -> None:
        super().__init__()
        self.register_buffer("views", views)

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The views, whatever is asked for."""
        return self.views


class FixedLoader:
    """The same batch in every step."""

    def __init__(self, batch: Batch, steps: int) -> None:
        self.batch, self.batch_size, self.steps_per_epoch = batch, len(batch), steps

    def epoch(self, number: int, *, first_step: int = 0) -> Iterator[Batch]:
        """See `TrainLoader`."""
        for _ in range(first_step, self.steps_per_epoch):
            yield self.batch


def simclr_on_pillow() -> transforms.Compose:
    """Torchvision's SimCLR view of a Pillow image."""
    bicubic = transforms.InterpolationMode.BICUBIC
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(32, (0.1, 1.0), interpolation=bicubic),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


class PillowViews(Dataset):
    """What released code does: one image at a time. Gives its row number and its views."""

    def __init__(self, pixels: Tensor, views: Sequence[Callable[[Image.Image], Tensor]]) -> None:
        self.pictures = [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).numpy()]
        self.views = views

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[int | Tensor, ...]:
        return row, *(view(self.pictures[row]) for view in self.views)


def networks(backbone: str) -> tuple[nn.Module, nn.Module]:
    """Backbone and projector with the same initial weights every time."""
    torch.manual_seed(0)
    network = create_backbone(backbone, image_size=32)
    return network, projector(feature_dim(network), ProjectorOptions())


def ours(backbone: str, view: nn.Module, loader: Loader, accelerator: Accelerator) -> float:
    """Images/s of the second of two epochs; the first one warms up. Only rank 0 knows them."""
    parts = TwoViewParts(*networks(backbone), view, [], num_samples=1)
    task = SimCLR(parts, options=SimCLROptions(), seed=0)
    plan = Plan(FitOptions(epochs=2), OptimOptions(), ScheduleOptions(), seed=0)
    with tempfile.TemporaryDirectory() as place:
        folder = create_run_folder(Path(place) / "run")
        fit(
            task, loader, plan,
            accelerator=accelerator, folder=folder, end_of_epoch=lambda task, epoch: {},
        )  # fmt: skip
        if not accelerator.is_main_process:
            return 0.0
        lines = [json.loads(line) for line in folder.timing.read_text().splitlines()]
    return lines[1]["images_per_second"]


def plain(backbone: str, pixels: Tensor, batch_size: int, steps: int) -> float:
    """Images/s of the plain loop."""
    network, head = networks(backbone)
    module, criterion = nn.Sequential(network, head), NTXentLoss(temperature=0.2)
    data = PillowViews(pixels, [simclr_on_pillow()] * 2)

    def loss(rows: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        return criterion(module(x1), module(x2))

    return plain_loop(module, data, loss, batch_size=batch_size, steps=steps)


def plain_loop(
    module: nn.Module, data: Dataset, loss: Callable[..., Tensor], *, batch_size: int, steps: int
) -> float:
    """Images/s of an ordinary loop with a worker a core, after a step of warming up."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    workers = os.cpu_count() or 1
    loader = DataLoader(data, batch_size, shuffle=True, num_workers=workers, drop_last=True)
    done = 0
    while True:
        for batch in loader:
            if done == 1:
                started_at = time.perf_counter()
            value = loss(*batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            done += 1
            if done == steps + 1:
                return steps * batch_size / (time.perf_counter() - started_at)


def one_of_several(rank: int, backbone: str, pixels: Tensor, batch_size: int, port: int) -> float:
    """Images/s of all processes, with one thread in each; 0 but of rank 0."""
    several = torch.get_num_threads()
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": several, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    device = PartialState(cpu=True).device
    accelerator = Accelerator(
        mixed_precision=resolve_precision("auto", device),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    view = ContrastiveView(SMALL_IMAGE_VIEW, size=32, mean=MEAN, std=STD)
    rate = ours(backbone, view, train_loader(pixels, batch_size, device), accelerator)
    torch.distributed.destroy_process_group()
    return rate


def in_several_processes(backbone: str, pixels: Tensor, batch_size: int) -> float:
    """Images/s of the loop in as many processes as this one has threads."""
    several = torch.get_num_threads()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ProcessPoolExecutor(several, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(one_of_several, rank, backbone, pixels, batch_size, port)
            for rank in range(several)
        ]
        return max(job.result() for job in jobs)


def train_loader(pixels: Tensor, batch_size: int, device: torch.device) -> TrainLoader:
    """Batches of images without labels."""
    table = PixelTable(pixels, torch.full((len(pixels),), -1))
    return TrainLoader(table, BatchPlan(len(table), batch_size, seed=0), device=device)


def measure(backbone: str, batch_size: int, steps: int, rounds: int) -> dict[str, float]:
    """Medians over the rounds, which take the loops in turn."""
    accelerator = Accelerator(mixed_precision=resolve_precision("auto", PartialState().device))
    shape = (batch_size * steps, 3, 32, 32)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    view = ContrastiveView(SMALL_IMAGE_VIEW, size=32, mean=MEAN, std=STD)
    loader = train_loader(pixels, batch_size, accelerator.device)
    batch = next(loader.epoch(0))
    ready = FixedView(view.to(accelerator.device)(batch.images, batch.index))
    candidates: dict[str, Callable[[], float]] = {
        "end to end": lambda: ours(backbone, view, loader, accelerator),
        "compute only": lambda: ours(backbone, ready, FixedLoader(batch, steps), accelerator),
        "plain loop": lambda: in_new_process(plain, backbone, pixels, batch_size, steps // 2 + 1),
    }
    if accelerator.device.type == "cpu" and torch.get_num_threads() > 1:
        candidates["processes"] = lambda: in_several_processes(backbone, pixels, batch_size)
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            found[name].append(candidate())
    return {name: median(rates) for name, rates in found.items()}


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet18_cifar", "resnet32_cifar"])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    results = {}
    print(f"{'images/s':16s} {'end to end':>12s} {'compute only':>13s} {'plain loop':>11s}"
          f" {'of compute':>11s} {'x plain':>8s} {'processes':>10s} {'x plain':>8s}")  # fmt: skip
    for backbone in arguments.backbones:
        steps = 3 if "18" in backbone else 12
        rounds = 1 if arguments.quick else 3
        rates = measure(backbone, arguments.batch_size, steps, rounds)
        results[backbone] = rates
        end, compute, plain_rate, *several = rates.values()
        print(f"{backbone:16s} {end:12.1f} {compute:13.1f} {plain_rate:11.1f}"
              f" {100 * end / compute:10.1f}% {end / plain_rate:8.2f}", end="")  # fmt: skip
        print("".join(f" {r:10.1f} {r / plain_rate:8.2f}" for r in several), flush=True)
    precision = resolve_precision("auto", PartialState().device)
    print(
        f"{torch.get_num_threads()} threads, ours in {precision}, plain loop in fp32, "
        f"batch {arguments.batch_size}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
