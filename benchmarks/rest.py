"""What evaluation, predictions, memories and checkpoints cost.

    python benchmarks/rest.py --what knn           seconds, beside lightly's `knn_predict`
    python benchmarks/rest.py --what probe         seconds and accuracy, beside BCL's Adam probe
    python benchmarks/rest.py --what predict       images/s and memory over a folder of images
    python benchmarks/rest.py --what memory        state of N samples: bytes, time of an update
    python benchmarks/rest.py --what checkpoint    seconds to write, verify and rotate one

kNN and probe take 50,000 x 512 features drawn of 100 overlapping classes; their variance falls
along the axes as that of a network's features does. Compare accuracies on them with each other
only. A state is measured in a process of its own. The checkpoint has the weights of ResNet-18,
their momentum and a memory of 10,847 images, and is written to the current folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _process import in_new_process, in_turn, parser, report
from lightly.utils.benchmarking import knn_predict as lightly_knn
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import ssl_lt
from ssl_lt.core.types import Epoch
from ssl_lt.engine.checkpoints.checkpoint import Checkpoint, save_checkpoint
from ssl_lt.evaluate.features.features import Features
from ssl_lt.evaluate.neighbours.knn import KNNOptions, knn_predict
from ssl_lt.evaluate.probes.linear_probe import linear_probe
from ssl_lt.evaluate.probes.published_probe import BCL, published_probe
from ssl_lt.losses.class_prior import PerSamplePrior, StreamingPrior
from ssl_lt.models.backbones import create_backbone
from ssl_lt.pretrain.memory_boost import MemoryBoost, MemoryBoostOptions
from ssl_lt.pretrain.two_views import PairStep
from ssl_lt.runs.inference.images import ImageOptions, find_images
from ssl_lt.runs.inference.load import load_trained
from ssl_lt.runs.inference.reading import answers

NUM_CLASSES, TEMPERATURE, K, LIGHTLY_BATCH = 100, 0.1, 200, 512
BATCH, CLUSTERS, MIB = 4096, 100, 2**20
Rows = dict[str, dict[str, float]]


def drawn(num_images: int, dim: int, seed: int) -> Features:
    """Features of overlapping classes."""
    centres = torch.randn(NUM_CLASSES, dim, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(num_images) % NUM_CLASSES
    noise = torch.randn(num_images, dim, generator=torch.Generator().manual_seed(seed))
    spectrum = (1 + torch.arange(dim)) ** -0.5
    features = ((0.4 * centres[labels] + noise) * spectrum).relu()
    return Features(features, labels, torch.arange(num_images))


def both_sets(*, quick: bool) -> tuple[Features, Features]:
    """Training and test features."""
    train, test, dim = (4_000, 1_000, 64) if quick else (50_000, 10_000, 512)
    return drawn(train, dim, seed=1), drawn(test, dim, seed=2)


def knn(*, quick: bool) -> Rows:
    """Seconds for all test images."""
    bank, queries = both_sets(quick=quick)

    def ours() -> Tensor:
        options = KNNOptions(K, TEMPERATURE)
        return knn_predict(bank, queries, num_classes=NUM_CLASSES, options=options)

    def lightly() -> Tensor:
        rows = F.normalize(bank.features, dim=1).T.contiguous()
        batches = F.normalize(queries.features, dim=1).split(LIGHTLY_BATCH)
        found = [
            lightly_knn(batch, rows, bank.labels, NUM_CLASSES, knn_k=K, knn_t=TEMPERATURE)
            for batch in batches
        ]
        return torch.cat(found)[:, 0]

    equal = float((ours() == lightly()).double().mean())
    seconds = in_turn({"ssl_lt": ours, "lightly": lightly}, rounds=1 if quick else 3, warm_up=0)
    return {
        name: {"seconds": spent, "equal answers, %": 100 * equal} for name, spent in seconds.items()
    }


def probe(*, quick: bool) -> Rows:
    """Seconds and test accuracy."""
    train, test = both_sets(quick=quick)
    published = replace(BCL, epochs=20 if quick else BCL.epochs)
    candidates = {
        "L-BFGS, with the choice of L2": partial(linear_probe, train, test),
        f"Adam, {published.epochs} epochs": partial(published_probe, train, test, published),
    }
    rows: Rows = {}
    for name, fit in candidates.items():
        started_at = time.perf_counter()
        found = fit(num_classes=NUM_CLASSES)
        right = (found.predictions == test.labels).double().mean()
        seconds = time.perf_counter() - started_at
        rows[name] = {"seconds": seconds, "accuracy, %": 100 * float(right)}
    return rows


def boosted(num_samples: int) -> tuple[MemoryBoost, Callable[[Tensor, Tensor], None]]:
    """BCL's memory and what a step does to it."""
    boost = MemoryBoost(MemoryBoostOptions(), num_samples=num_samples)
    epoch = Epoch(number=0, total=2, steps=1)

    def update(index: Tensor, values: Tensor) -> None:
        pair = values[:, :1]
        boost.observe(PairStep(index, pair, pair, losses=values[:, 0], epoch=epoch))

    return boost, update


def state_of(name: str, num_samples: int, rounds: int) -> dict[str, float]:
    """Size of a state of N samples, and the time of an update with a batch."""
    torch.set_num_threads(1)
    if name == "boosted memory":
        boost, update = boosted(num_samples)
        memory = boost.memory
    else:
        streams = name == "prior, streaming"
        memory = StreamingPrior(CLUSTERS) if streams else PerSamplePrior(num_samples, CLUSTERS)
        update = partial(memory.update, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(num_samples, (BATCH,), generator=generator)
    values = torch.randn(BATCH, CLUSTERS, generator=generator)
    step = {"update": lambda: update(index, values)}
    milliseconds = 1e3 * in_turn(step, rounds=rounds, clock=time.process_time)["update"]
    return {
        "state, MiB": sum(table.nbytes for table in memory.tables.values()) / MIB,
        "update, ms": milliseconds,
        "peak, MiB": peak_mib(),
    }


def memory(*, quick: bool) -> Rows:
    """What the plug-ins remember of N samples."""
    sizes = {"boosted memory": 10**8, "prior, streaming": 10**8, "prior, per sample": 10**6}
    return {
        f"{name}, {size:,} samples": in_new_process(state_of, name, size, 3 if quick else 30)
        for name, largest in sizes.items()
        for size in ([10**6] if quick else sorted({10**6, largest}))
    }


def checkpoint(*, quick: bool) -> Rows:
    """Each save also deletes an old one."""
    network = create_backbone("resnet18_cifar", image_size=32)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    momentum = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    tensors = {"model": weights, "optimizer": momentum, "memory": {"loss": torch.zeros(10_847)}}
    with tempfile.TemporaryDirectory(dir=".") as place:
        steps = iter(range(1, 100))

        def save() -> None:
            save_checkpoint(Path(place), Checkpoint(next(steps), {}, tensors), keep=2)

        rounds = 3 if quick else 11
        row = {"wall, ms": 1e3 * in_turn({"": save}, rounds=rounds, warm_up=2)[""]}
        processor = in_turn({"": save}, rounds=rounds, clock=time.process_time)[""]
        newest = max(Path(place).glob("step-*"))
        size = sum(file.stat().st_size for file in newest.iterdir()) / MIB
    return {"a checkpoint": {"MiB": size, **row, "processor, ms": 1e3 * processor}}


def peak_mib() -> float:
    """Of this process; what `getrusage` says begins with what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def write_images(folder: Path, number: int) -> None:
    """PNG files of noise, 1,000 in a sub-folder."""
    generator = np.random.default_rng(0)
    for start in range(0, number, 1000):
        place = folder / f"{start // 1000:03d}"
        place.mkdir(parents=True)
        for row, pixels in enumerate(
            generator.integers(0, 256, (min(1000, number - start), 32, 32, 3), dtype=np.uint8)
        ):
            Image.fromarray(pixels).save(place / f"{row:03d}.png")


def seconds_and_peak(run: Path, images: Path, output: Path | None) -> tuple[float, float]:
    """Of predictions, or of features that are not kept; MiB of this process at its largest."""
    torch.set_num_threads(1)
    started_at = time.perf_counter()
    if output is not None:
        ssl_lt.predict(run=run, data=str(images), output=output)
    else:
        options = ImageOptions(data=str(images))
        model = load_trained(str(run))
        table = find_images(options, model.facts.decoding).table
        for _ in answers(model.features, model, table, options, label="features alone"):
            pass
    return time.perf_counter() - started_at, peak_mib()


def predict(*, quick: bool) -> Rows:
    """A fifth of the images, to see what memory does, and all of them in turns."""
    number, rounds = (2_000, 1) if quick else (100_000, 2)
    rows: Rows = {}
    with tempfile.TemporaryDirectory() as place:
        run, images, fifth = (Path(place) / name for name in ("run", "images", "fifth"))
        # Elsewhere, or the peak of this process would be that of all that it starts.
        in_new_process(partial(ssl_lt.finetune, init_from="scratch", epochs=1, run_dir=run))
        in_new_process(write_images, images, number)
        in_new_process(write_images, fifth, number // 5)
        asked: list[tuple[str, Path, int]] = [("predict", fifth, number // 5)]
        asked += [("predict", images, number), ("features alone", images, number)] * rounds
        for turn, (what, folder, size) in enumerate(asked):
            output = Path(place) / f"{turn}.csv" if what == "predict" else None
            seconds, peak = in_new_process(seconds_and_peak, run, folder, output)
            row = rows.setdefault(f"{what}, {size:,} images", {"images/s": 0.0, "peak, MiB": 0.0})
            row["images/s"] = max(row["images/s"], size / seconds)
            row["peak, MiB"] = max(row["peak, MiB"], peak)
    return rows


WHAT = {
    "knn": knn,
    "probe": probe,
    "predict": predict,
    "memory": memory,
    "checkpoint": checkpoint,
}


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    arguments = parser(__doc__, WHAT).parse_args()
    report(WHAT[arguments.what](quick=arguments.quick), json_path=arguments.json)


if __name__ == "__main__":
    main()
