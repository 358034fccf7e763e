"""How long training takes to the published accuracy of logit adjustment, on this machine.

    python benchmarks/speedrun.py --data-root DATA

CIFAR-100-LT, imbalance 100, from scratch: `finetune.py --config finetune/fast --epochs 30`, once
for each seed, in a process of its own whose minutes are counted from start to end. Accuracy is of
the last epoch, on the balanced test set. `mirrored` is that of the mean over each image and its
mirror image; the seconds of that second pass over the test images are not counted. Published: 43.9
after 200 epochs of a ResNet-32 (arXiv:2007.07314).

`plain loop` is what people write: ResNet-32 in fp32, batch 256, Pillow images with torchvision's
crop, flip, AutoAugment and a black square, a loader worker a core. Its rate is measured, and the
minutes of its 200 epochs follow from it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _process import in_new_process, report
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import ssl_lt
from ssl_lt.data.dataset import open_data
from ssl_lt.data.options import DataOptions
from ssl_lt.losses.logit_adjustment import class_log_prior
from ssl_lt.models.backbones import create_backbone

PUBLISHED_EPOCHS = 200
RECIPE, EPOCHS = "finetune/fast", 30
CLASSIFIER, MIRRORED = "classifier", "classifier, flip"


def trained(flags: dict[str, Any], threads: int) -> dict[str, float]:
    """Minutes and accuracies of one run."""
    started_at = time.perf_counter()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as place:
        run = ssl_lt.finetune(config=RECIPE, run_dir=f"{place}/run", **flags)
        row = {"minutes": (time.perf_counter() - started_at) / 60}
        judged = ssl_lt.evaluate(run=run, ensemble="flip", probe_on=["long-tail"], map_images=0)
    accuracies = {e.name: e.accuracy for e in judged.evaluations}
    by_count = accuracies[CLASSIFIER].groups[0]
    row["all"] = 100 * accuracies[CLASSIFIER].balanced
    for group in ("many", "medium", "few"):
        row[group] = 100 * getattr(by_count, group)
    return row | {"mirrored": 100 * accuracies[MIRRORED].balanced}


class PillowImages(Dataset):
    """One image at a time, augmented as the papers do for 200 epochs."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.images = [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).numpy()]
        self.labels = labels.tolist()
        self.view = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10),
                transforms.ToTensor(),
                transforms.RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1, 1)),
                transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.view(self.images[row]), self.labels[row]


def plain_loop(options: DataOptions, threads: int, steps: int) -> dict[str, float]:
    """Images/s of an ordinary loop after a step of warming up, and minutes of 200 epochs."""
    torch.set_num_threads(threads)
    data = open_data(options)
    table = data.train
    network = nn.Sequential(
        create_backbone("resnet32_cifar", image_size=32), nn.Linear(64, data.num_classes)
    )
    log_prior = class_log_prior(torch.tensor(data.split.counts_per_class))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(
        PillowImages(table.pixels, torch.as_tensor(table.labels)), 256, shuffle=True,
        drop_last=True, num_workers=os.cpu_count() or 1,
    )  # fmt: skip
    for done, (images, labels) in enumerate(loader):
        if done == 1:
            started_at = time.perf_counter()
        loss = F.cross_entropy(network(images) + log_prior, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if done == steps:
            break
    rate = done * 256 / (time.perf_counter() - started_at)
    minutes = PUBLISHED_EPOCHS * len(table) / rate / 60
    return {"images/s": rate, "minutes": minutes}


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--data-root", type=Path, required=True, help="folder with CIFAR-100")
    flags.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    flags.add_argument("--epochs", type=int, default=EPOCHS)
    flags.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    flags.add_argument("--quick", action="store_true", help="an epoch, to see that it works")
    flags.add_argument("--json", type=Path, help="write the numbers to this file")
    asked = flags.parse_args()
    torch.set_num_threads(asked.threads)
    data = {"data": "cifar100", "data_root": asked.data_root, "imbalance_factor": 100.0}
    length = {"epochs": 1, "warmup_epochs": 0} if asked.quick else {"epochs": asked.epochs}
    steps = 2 if asked.quick else 40
    plain = in_new_process(plain_loop, DataOptions(**data), asked.threads, steps)
    rows = {"plain loop, computed": plain}
    for seed in asked.seeds:
        row = in_new_process(trained, {**data, **length, "seed": seed}, asked.threads)
        rows[f"seed {seed}"] = row
    runs = [row for name, row in rows.items() if name.startswith("seed")]
    rows["mean"] = {name: sum(row[name] for row in runs) / len(runs) for name in runs[0]}
    rows["mean"]["times plain"] = plain["minutes"] / rows["mean"]["minutes"]
    report(rows, json_path=asked.json)


if __name__ == "__main__":
    main()
