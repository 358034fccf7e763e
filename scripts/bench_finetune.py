"""What a contrast costs beside a three-view step, and what the views of that step cost.

- a contrast: its forward and backward pass alone, both views of a batch as anchors and keys, and a
  prototype a class where the loss has them, as a share of the first network's step;
- end to end: a step of the recipe `rcl` (classified view with AutoAugment and Cutout, two
  contrastive views), from the loader to the update;
- compute only: the same step on one fixed batch of ready views;
- plain loop: the same network and losses in fp32 and NCHW, the three views made by torchvision from
  Pillow images in a DataLoader with a worker a core. It runs in a process of its own.

Everything else takes turns, so that whatever else the machine does meets all alike; medians are
shown. The images are synthetic: their content plays no part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import torch
from accelerate import PartialState
from bench_methods import CLOCKS, Clock, endless, in_turn, long_tail, stepper
from bench_throughput import (
    MEAN,
    STD,
    FixedView,
    PillowViews,
    plain_loop,
    simclr_on_pillow,
)
from new_process import in_new_process
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from ssl_lt.augment.classifier_view import ClassifierView
from ssl_lt.augment.views import SMALL_IMAGE_VIEW, ContrastiveView
from ssl_lt.core.precision import resolve_precision
from ssl_lt.core.types import Batch
from ssl_lt.data.loading.plan import BatchPlan, TrainLoader
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.allocator import keep_freed_memory
from ssl_lt.finetune.parts import Parts
from ssl_lt.finetune.registry import LOSSES
from ssl_lt.finetune.tasks.contrast_task import ContrastTask, build_contrast
from ssl_lt.losses.labelled_rows import labelled_rows
from ssl_lt.models.backbones import create_backbone, feature_dim
from ssl_lt.models.classifiers import linear_classifier

SIZE, NUM_CLASSES = 32, 100
# Of the contrasts alone: many classes, because prototypes are keys.
CONTRASTS, MANY_CLASSES, OUTPUT_DIM = ("scl", "bcl", "rcl", "bcl_rcl"), 1000, 128
STEPS_PER_EPOCH = 4


def class_counts(num_classes: int) -> Tensor:
    """(C,) training images of each class, 500 to 5."""
    shares = long_tail(num_classes)
    return (500 * shares / shares[0]).round().long()


def contrast_alone(loss: str, batch_size: int, device: torch.device) -> Callable[[], None]:
    """A function that does the forward and backward pass of a contrast."""
    entry = LOSSES[loss]
    assert entry.contrast is not None
    contrast = entry.contrast(class_counts(MANY_CLASSES), entry.options()).to(device)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2 * batch_size + MANY_CLASSES, OUTPUT_DIM, generator=generator)
    unit = F.normalize(rows, dim=1).to(device)
    z, prototypes = (t.requires_grad_() for t in unit.split([2 * batch_size, MANY_CLASSES]))
    shares = long_tail(MANY_CLASSES)
    labels = torch.multinomial(shares, batch_size, True, generator=generator)  # noqa: FBT003
    labels = labels.repeat(2).to(device)
    inputs = (z, prototypes) if contrast.uses_prototypes else (z,)

    def both_passes() -> None:
        losses = contrast(labelled_rows(z, labels), prototypes)
        torch.autograd.grad(losses.mean(), inputs)

    return both_passes


def recipe(backbone: str, views: tuple[nn.Module, nn.Module], device: torch.device) -> ContrastTask:
    """Step of `finetune.py --loss rcl`, with the same initial weights every time."""
    torch.manual_seed(0)
    network, entry = create_backbone(backbone, image_size=SIZE), LOSSES["rcl"]
    counts, options = class_counts(NUM_CLASSES), entry.options()
    parts = Parts(
        backbone=network,
        num_features=feature_dim(network),
        classifier=linear_classifier(feature_dim(network), NUM_CLASSES),
        view=views[0],
        contrastive_view=views[1],
        counts_per_class=counts,
        trained="all",
        train_features=_not_asked_for,
        seed=0,
    )
    assert entry.contrast is not None
    task = ContrastTask(
        parts.backbone,
        parts.classifier,
        entry.build(counts, options),
        parts.view,
        contrast=build_contrast(entry.contrast(counts, options), parts, options),
        seed=0,
    )
    return task.to(device).to(memory_format=torch.channels_last)


def _not_asked_for(network: nn.Module) -> tuple[Tensor, Tensor]:
    raise AssertionError("the recipe takes no features between epochs")


class Handed(nn.Module):
    """Gives the views that it was handed, one a call."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[Tensor] = []

    def forward(self, images: Tensor, keys: Tensor, strength: Tensor | None = None) -> Tensor:
        """The next view."""
        return self.views.pop(0)


def plain(backbone: str, batch_size: int, steps: int) -> float:
    """Images/s of the plain loop."""
    classified, contrasted = Handed(), Handed()
    task = recipe(backbone, (classified, contrasted), torch.device("cpu"))
    task = task.to(memory_format=torch.contiguous_format)
    pixels, labels = drawn(STEPS_PER_EPOCH * batch_size)
    view = transforms.Compose(
        [
            transforms.RandomCrop(SIZE, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
            transforms.RandomErasing(1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0)),  # Cutout
        ]
    )

    def loss(rows: Tensor, x: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
        classified.views, contrasted.views = [x], [x1, x2]
        return task(Batch(x, labels[rows], rows)).loss

    data = PillowViews(pixels, [view, simclr_on_pillow(), simclr_on_pillow()])
    return plain_loop(task, data, loss, batch_size=batch_size, steps=steps)


def drawn(count: int) -> tuple[Tensor, Tensor]:
    """Random images (N, 3, SIZE, SIZE) uint8 and labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, SIZE, SIZE)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(NUM_CLASSES, (count,), generator=generator)


def steppers(backbone: str, batch_size: int, device: torch.device) -> dict[str, Callable[[], None]]:
    """The step end to end and on ready views."""
    pixels, labels = drawn(STEPS_PER_EPOCH * batch_size)
    plan = BatchPlan(len(pixels), batch_size, seed=0)
    loader = TrainLoader(PixelTable(pixels, labels), plan, device=device)
    normal = {"size": SIZE, "mean": MEAN, "std": STD}
    views = (
        ClassifierView(**normal, policy="cifar10", cutout=SIZE // 2),
        ContrastiveView(SMALL_IMAGE_VIEW, **normal),
    )
    batch = next(loader.epoch(0))
    first, second = (FixedView(view.to(device)(batch.images, batch.index)) for view in views)
    return {
        "end to end": stepper(recipe(backbone, views, device), endless(loader)),
        "compute only": stepper(recipe(backbone, (first, second), device), repeat(batch)),
    }


def bench(
    backbones: list[str], batch_size: int, *, rounds: int, device: torch.device, clock: Clock
) -> dict[str, dict[str, float]]:
    """Median milliseconds: of the steps of each backbone, and under "contrasts" of each loss."""
    results: dict[str, dict[str, float]] = {}
    contrasts = {name: contrast_alone(name, batch_size, device) for name in CONTRASTS}
    for backbone in backbones:
        candidates = steppers(backbone, batch_size, device)
        if not results:  # beside the first backbone, whose step they are compared with
            found = in_turn({**candidates, **contrasts}, rounds=rounds, device=device, clock=clock)
            results["contrasts"] = {name: found.pop(name) for name in contrasts}
        else:
            found = in_turn(candidates, rounds=rounds, device=device, clock=clock)
        results[backbone] = found
    return results


def main() -> None:
    """Prints two tables and, where asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet32_cifar", "resnet18_cifar"])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="which time is shown")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    rounds, clock = 2 if arguments.quick else 9, CLOCKS[arguments.clock]
    device = PartialState().device
    if device.type == "cpu":
        keep_freed_memory()
    results = bench(
        arguments.backbones, arguments.batch_size, rounds=rounds, device=device, clock=clock
    )
    first = arguments.backbones[0]
    print(f"{'a contrast':16s} {'ms':>10s} {'of a step of ' + first:>30s}")
    for name, milliseconds in results["contrasts"].items():
        share = 100 * milliseconds / results[first]["end to end"]
        print(f"{name:16s} {milliseconds:10.2f} {share:29.2f}%")
    print(f"\n{'a step, ms':16s} {'end to end':>10s} {'compute only':>13s} {'of compute':>11s}"
          f" {'images/s':>9s} {'plain loop':>11s} {'x plain':>8s}")  # fmt: skip
    for backbone in arguments.backbones:
        end, compute = (results[backbone][name] for name in ("end to end", "compute only"))
        print(f"{backbone:16s} {end:10.1f} {compute:13.1f} {100 * compute / end:10.1f}%"
              f" {1e3 * arguments.batch_size / end:9.1f}", end="")  # fmt: skip
        steps = 2 if "18" in backbone else 4
        rate = in_new_process(plain, backbone, arguments.batch_size, steps)
        results[backbone]["plain images/s"] = rate
        print(f" {rate:11.1f} {1e3 * arguments.batch_size / end / rate:8.2f}", flush=True)
    print(
        f"\nbatch {arguments.batch_size}, contrasts with {MANY_CLASSES} classes, "
        f"{torch.get_num_threads()} threads on {device}, "
        f"{resolve_precision('auto', device)} precision, {arguments.clock} time, "
        f"medians of {rounds} rounds"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
