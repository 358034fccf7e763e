"""What one GPU does, in under eight minutes.

    python benchmarks/gpu.py                          on CUDA
    python benchmarks/gpu.py --device cpu --small     tiny, to see that it works

- end to end: images/s of SimCLR from the loader to the update; ready views: the same without loader
  and augmentation; an image counts once, though two views of it are made;
- of the matrix rate: the floating-point operations of a step, as torch counts them, divided by its
  time and by the rate of one large product in the same precision, measured here;
- plain loop: the same network, torchvision's transforms on Pillow images, a DataLoader with a
  worker a core, lightly's NT-Xent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

Rows = dict[str, dict[str, float]]
MIB = 2**20


def peak_mib() -> float:
    """Of the GPU's memory since it was last asked."""
    if not torch.cuda.is_available():
        return 0.0
    peak = torch.cuda.max_memory_allocated() / MIB
    torch.cuda.reset_peak_memory_stats()
    return peak


def matrix_rate(*, small: bool) -> float:
    """Operations a second of one large product, in the precision that training takes."""
    from _process import in_turn
    from train import DEVICE

    from ssl_lt.core.precision import autocast_dtype

    size, dtype = 256 if small else 8192, autocast_dtype("auto", DEVICE) or torch.float32
    a = torch.randn(size, size, device=DEVICE, dtype=dtype)
    seconds = in_turn({"": lambda: a @ a}, rounds=3 if small else 20)[""]
    return 2 * size**3 / seconds


def write_photos(place: Path, *, number: int, size: int) -> None:
    """JPEG files of smooth noise, in a folder a class."""
    generator = np.random.default_rng(0)
    for row in range(number):
        coarse = generator.integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8)
        folder = place / f"class_{row % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(
            folder / f"{row:05d}.jpg", quality=90
        )


def training(words: list[str], *, rounds: int, rate: float) -> dict[str, float]:
    """Images/s of SimCLR with these flags, share of the matrix rate and memory."""
    from _process import in_turn
    from torch.utils.flop_counter import FlopCounterMode
    from train import pretraining_config, pretraining_steppers

    peak_mib()
    config = pretraining_config(words)
    steps = pretraining_steppers(config)
    seconds = in_turn(steps, rounds=rounds)
    with FlopCounterMode(display=False) as counted:
        steps["ready views"]()
    images = config.fit.batch_size
    share = counted.get_total_flops() / seconds["ready views"] / rate
    return {
        **{f"{name}, images/s": images / spent for name, spent in seconds.items()},
        "of the matrix rate, %": 100 * share,
        "memory, MiB": peak_mib(),
    }


def networks(*, small: bool) -> Rows:
    """ResNet-18 for small images from memory, ResNet-50 at 224 from JPEG files."""
    rate, rounds = matrix_rate(small=small), 1 if small else 20
    none = ["--imbalance", "none"]
    batch, photos, size = (16, 64, 64) if small else (512, 1024, 224)
    width = ["--width", "4"] if small else []
    rows = {}
    words = [*none, "--backbone", "resnet18_cifar", *width, "--batch-size", str(batch)]
    rows["resnet18_cifar, 32 px"] = training(words, rounds=rounds, rate=rate)
    with tempfile.TemporaryDirectory() as place:
        write_photos(Path(place), number=photos, size=size + 32)
        words = [*none, "--data", f"folder:{place}", "--image-size", str(size), "--cache-mib", "0"]
        words += ["--backbone", "test_resnet" if small else "resnet50", "--batch-size"]
        words += [str(min(batch, 128)), "--num-workers", "0" if small else "8"]
        name = f"ResNet-50, {size} px" if not small else f"test_resnet, {size} px"
        rows[name] = training(words, rounds=rounds, rate=rate)
    rows["one large product"] = {"TFLOP/s": rate / 1e12}
    return rows


def plain(*, small: bool) -> Rows:
    """The plain loop's images/s."""
    from train import plain_images_per_second

    words = ["--imbalance", "none", "--backbone", "resnet18_cifar", "--batch-size"]
    words += ["16", "--width", "4"] if small else ["256"]
    return {"plain loop, resnet18_cifar": {"images/s": plain_images_per_second(words)}}


def assignment(*, small: bool) -> Rows:
    """Milliseconds in which harmonization assigns both views."""
    from _process import in_turn
    from train import DEVICE

    from ssl_lt.losses.sinkhorn import sinkhorn

    rows: Rows = {}
    for size, clusters in ((32, 8),) if small else ((512, 100), (4096, 1000)):
        rows_of = torch.randn(2, size, clusters, device=DEVICE)
        logits = torch.nn.functional.normalize(rows_of, dim=2)
        prior = torch.full((clusters,), 1 / clusters, device=DEVICE)

        def assign(logits: torch.Tensor = logits, prior: torch.Tensor = prior) -> None:
            sinkhorn(logits, prior, epsilon=0.05)

        spent = in_turn({"": assign}, rounds=3 if small else 20)[""]
        rows[f"Sinkhorn, 2 x {size} x {clusters}"] = {"ms": 1e3 * spent}
    return rows


def evaluation(*, small: bool) -> Rows:
    """Seconds of kNN and of the linear probe, on features drawn at random."""
    from _process import in_turn
    from rest import NUM_CLASSES, TEMPERATURE, K, drawn

    from ssl_lt.evaluate.neighbours.knn import KNNOptions, knn_predict
    from ssl_lt.evaluate.probes.linear_probe import linear_probe

    train, test, dim = (1_000, 200, 16) if small else (50_000, 10_000, 2_048)
    bank, queries = drawn(train, dim, seed=1), drawn(test, dim, seed=2)
    candidates: dict[str, Callable[[], object]] = {
        "kNN": lambda: knn_predict(
            bank, queries, num_classes=NUM_CLASSES, options=KNNOptions(K, TEMPERATURE)
        ),
        "linear probe": lambda: linear_probe(bank, queries, num_classes=NUM_CLASSES),
    }
    spent = in_turn(candidates, rounds=1, warm_up=0)
    return {f"{name}, {train:,} x {dim:,}": {"seconds": s} for name, s in spent.items()}


def main() -> None:
    """Prints each table as soon as it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny, to see that it works")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch sees no GPU here; --device cpu --small shows that it works")
    import train
    from _process import report

    train.DEVICE = torch.device(arguments.device)
    for what in (networks, plain, assignment, evaluation):
        report(what(small=arguments.small), json_path=None)


if __name__ == "__main__":
    main()
