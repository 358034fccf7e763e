"""What a checkpoint costs, by part, and as a share of an epoch with one checkpoint.

The state is that of SDCLR with BCL, ResNet-18, on CIFAR-100-LT (10,847 images): weights, two sets
of batch norms, momentum, mask, memory. Three are kept in turn, so that each save also deletes one.
What is beyond writing the tensors is what safety costs: digests, waiting for the disk, reading back
and verifying, renaming, deleting the oldest. Beside other programs, processor time is what can
still be compared; it leaves out the wait for the disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ssl_lt.core.types import Epoch
from ssl_lt.engine.checkpoints import checkpoint as checkpoints
from ssl_lt.engine.checkpoints.checkpoint import save_checkpoint
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.checkpoints.state import TrainingState
from ssl_lt.engine.logs.metrics import MetricsLog
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.models.backbones import create_backbone, feature_dim
from ssl_lt.models.heads import ProjectorOptions, projector
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.registry import METHODS, PLUGINS, PluginSite

NUM_IMAGES = 10_847
# Of `pretrain.py` with ResNet-18 on two cores, docs/performance.md; --images-per-second for others.
IMAGES_PER_SECOND = 90.5
PARTS = {
    "save_file": "write the tensors",
    "_write_manifest": "digest and sync them",
    "_verify": "read back and verify",
    "_remove": "delete the oldest",
}


def state_of(backbone: str) -> TrainingState:
    """Of a training after its first step."""
    network = create_backbone(backbone, image_size=32)
    head = projector(feature_dim(network), ProjectorOptions())
    site = PluginSite(num_samples=NUM_IMAGES, embedding_dim=128, total_epochs=1, seed=0)
    boost = PLUGINS["bcl"].build(PLUGINS["bcl"].options(), site)
    parts = TwoViewParts(network, head, nn.Identity(), [boost], num_samples=NUM_IMAGES)
    task = METHODS["sdclr"].build(parts, options=METHODS["sdclr"].options(), seed=0)
    task.on_epoch_start(Epoch(0, 1, 1))
    optimizer = build_optimizer(task, OptimOptions())
    for parameter in task.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    folder = create_run_folder(Path(tempfile.mkdtemp()) / "run")
    return TrainingState(task, optimizer, MetricsLog(folder, Accelerator(cpu=True)), 1)


class Clock:
    """Seconds spent in a function: of the wall clock and of the processor."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.spent = function, (0.0, 0.0)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """The function; what it takes is added."""
        wall, processor = time.perf_counter(), time.process_time()
        try:
            return self.function(*arguments, **options)
        finally:
            self.spent = (
                self.spent[0] + time.perf_counter() - wall,
                self.spent[1] + time.process_time() - processor,
            )


def measure(
    state: TrainingState, place: Path, rounds: int
) -> tuple[dict[str, tuple[float, float]], int]:
    """Median seconds (wall, processor) of each part and in all, and the bytes of a checkpoint."""
    clocks = {title: Clock(getattr(checkpoints, name)) for name, title in PARTS.items()}
    for name, title in PARTS.items():
        setattr(checkpoints, name, clocks[title])
    clocks["all"] = Clock(lambda step: save_checkpoint(place, state.at(step), keep=2))
    found: dict[str, list[tuple[float, float]]] = {title: [] for title in clocks}
    for step in range(1, rounds + 3):
        for clock in clocks.values():
            clock.spent = (0.0, 0.0)
        path = clocks["all"](step)
        if step > 2:  # from here on there is an old one to delete
            for title, clock in clocks.items():
                found[title].append(clock.spent)
    medians = {
        title: (median(wall for wall, _ in spent), median(processor for _, processor in spent))
        for title, spent in found.items()
    }
    return medians, sum(file.stat().st_size for file in path.iterdir())


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18_cifar")
    parser.add_argument("--images-per-second", type=float, default=IMAGES_PER_SECOND)
    parser.add_argument("--place", type=Path, default=Path("runs"), help="a folder on the disk")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    arguments.place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.place) as place:
        state = state_of(arguments.backbone)
        seconds, size = measure(state, Path(place), rounds=3 if arguments.quick else 11)
    epoch = NUM_IMAGES / arguments.images_per_second
    print(f"a checkpoint of {arguments.backbone}: {size:,} bytes; an epoch: {epoch:.0f} s")
    total, tensors = seconds["all"], seconds["write the tensors"]
    seconds["of all, safety"] = (total[0] - tensors[0], total[1] - tensors[1])
    print(f"{'':24s} {'wall':>8s}  {'of an epoch':>12s} {'processor':>12s} {'of an epoch':>12s}")
    for name, (wall, processor) in seconds.items():
        print(f"{name:24s} {1000 * wall:5.0f} ms {100 * wall / epoch:11.2f} % "
              f"{1000 * processor:9.0f} ms {100 * processor / epoch:10.2f} %")  # fmt: skip
    if arguments.json:
        numbers = {"bytes": size, "epoch_seconds": epoch, "wall and processor seconds": seconds}
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
