"""Memory: what a method remembers of N samples, and what a training process holds at its peak.

- State: the boosted memory and both priors of harmonization, for N samples and no network. Bytes a
  sample, milliseconds an update with a batch of 4,096, and seconds at the end of an epoch
  (processor time, one thread), each in a process of its own. What would take more than
  `--limit-gib` is computed, and said not to be run.
- Process: peak resident memory of some steps of SimCLR through the training loop, against network,
  batch and size of the training set (32 px, in memory), beside what the imports alone hold.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from new_process import in_new_process
from torch import Tensor

from ssl_lt.augment.views import SMALL_IMAGE_VIEW, ContrastiveView
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.precision import resolve_precision
from ssl_lt.core.types import Epoch
from ssl_lt.data.loading.plan import BatchPlan, TrainLoader
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.checkpoints.run_folder import create_run_folder
from ssl_lt.engine.fit import fit
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.plan import FitOptions, Plan
from ssl_lt.engine.schedule import ScheduleOptions
from ssl_lt.models.backbones import create_backbone, feature_dim
from ssl_lt.models.heads import ProjectorOptions, projector
from ssl_lt.pretrain.class_prior import PerSamplePrior, StreamingPrior
from ssl_lt.pretrain.memory_boost import MemoryBoost, MemoryBoostOptions
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.simclr import SimCLR, SimCLROptions
from ssl_lt.pretrain.two_views import PairStep

BATCH, CLUSTERS, WIDTH = 4096, 100, 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
# Name -> bytes a sample, and how many times its state is held while an epoch ends.
STATES = {
    "boosted memory": (9, 3),
    "prior, streaming": (0, 1),
    "prior, per sample": (4 * CLUSTERS, 1.5),
}
MIB, GIB = 2**20, 2**30
Update = Callable[[Tensor, Tensor], None]  # (B,) rows, (B, K) logits or, first column, losses


def peak_bytes() -> int:
    """Largest resident memory of this process so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def simulated(name: str, num_samples: int) -> tuple[SampleMemory, Update, Callable[[], None]]:
    """A state of N samples, what a step does to it, and what the end of an epoch does."""
    epoch = Epoch(number=0, total=2, steps=-(-num_samples // BATCH))
    if name == "boosted memory":
        boost = MemoryBoost(MemoryBoostOptions(), num_samples=num_samples)

        def observe(index: Tensor, values: Tensor) -> None:
            pair = values[:, :1]
            boost.observe(PairStep(index, pair, pair, losses=values[:, 0], epoch=epoch))

        return boost.memory, observe, partial(boost.on_epoch_end, epoch)
    streaming = name == "prior, streaming"
    prior = StreamingPrior(CLUSTERS) if streaming else PerSamplePrior(num_samples, CLUSTERS)
    refresh = partial(prior.refresh, pseudo_count=0.0, empty="keep")
    return prior, partial(prior.update, momentum=0.9), refresh


def state_cost(name: str, num_samples: int, rounds: int) -> dict[str, float]:
    """Bytes, update and end of an epoch of a state of N samples."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    memory, update, end_epoch = simulated(name, num_samples)
    nbytes = sum(table.nbytes for table in memory.tables.values())
    milliseconds = []
    for _ in range(rounds + 1):  # the first one warms up
        index = torch.randint(num_samples, (BATCH,), generator=generator)
        values = torch.randn(BATCH, CLUSTERS, generator=generator)
        milliseconds.append(timed_ms(lambda: update(index, values)))  # noqa: B023  (called here)
    return {
        "bytes_a_sample": nbytes / num_samples,
        "state_mib": nbytes / MIB,
        "update_ms": median(milliseconds[1:]),
        "epoch_end_seconds": timed_ms(end_epoch) / 1e3,
        "peak_mib": peak_bytes() / MIB,
    }


def timed_ms(action: Callable[[], None]) -> float:
    """Milliseconds of processor time, which other programs leave alone."""
    started_at = time.process_time()
    action()
    return 1e3 * (time.process_time() - started_at)


def computed_state(name: str, num_samples: int) -> dict[str, float]:
    """What is known without running it."""
    nbytes = STATES[name][0] * num_samples
    return {"bytes_a_sample": STATES[name][0], "state_mib": nbytes / MIB}


def fits(name: str, num_samples: int, limit_gib: float) -> bool:
    """Whether the state and what its epoch's end needs besides stay below the limit and the RAM."""
    bytes_a_sample, copies = STATES[name]
    needed = bytes_a_sample * copies * num_samples + GIB
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return needed < min(limit_gib * GIB, 0.8 * free)


def imported() -> float:
    """MiB that the imports of this file alone hold."""
    return peak_bytes() / MIB


def training_peak(backbone: str, batch_size: int, num_images: int, steps: int) -> float:
    """MiB at the peak of some steps of SimCLR."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (num_images, 3, 32, 32), generator=generator, dtype=torch.uint8)
    table = PixelTable(pixels, torch.full((num_images,), -1))
    accelerator = Accelerator(mixed_precision=resolve_precision("auto", PartialState().device))
    loader = TrainLoader(
        table, BatchPlan(num_images, batch_size, seed=0), device=accelerator.device
    )
    network = create_backbone(backbone, image_size=32)
    parts = TwoViewParts(
        network,
        projector(feature_dim(network), ProjectorOptions(output_dim=WIDTH)),
        ContrastiveView(SMALL_IMAGE_VIEW, size=32, mean=MEAN, std=STD),
        [],
        num_samples=num_images,
    )
    task = SimCLR(parts, options=SimCLROptions(), seed=0)
    plan = Plan(FitOptions(epochs=1), OptimOptions(), ScheduleOptions(), seed=0)
    with tempfile.TemporaryDirectory() as place:
        fit(
            task, Shortened(loader, steps), plan,
            accelerator=accelerator, folder=create_run_folder(Path(place) / "run"),
            end_of_epoch=lambda task, epoch: {},
        )  # fmt: skip
    return peak_bytes() / MIB


class Shortened:
    """The first batches of an epoch."""

    def __init__(self, loader: TrainLoader, steps: int) -> None:
        self.loader, self.batch_size, self.steps_per_epoch = loader, loader.batch_size, steps

    def epoch(self, number: int, *, first_step: int = 0) -> Any:
        """See `TrainLoader`."""
        batches = self.loader.epoch(number, first_step=first_step)
        return (next(batches) for _ in range(first_step, self.steps_per_epoch))


def bench_states(sizes: list[int], rounds: int, limit_gib: float) -> list[dict[str, Any]]:
    """A row a state and size; prints as it goes."""
    print(f"{'state of N samples':20s} {'N':>12s} {'bytes/sample':>13s} {'state, MiB':>11s}"
          f" {'update, ms':>11s} {'epoch end, s':>13s} {'peak, MiB':>10s}")  # fmt: skip
    rows = []
    for name in STATES:
        for num_samples in sizes:
            run = fits(name, num_samples, limit_gib)
            found: Mapping[str, float] = (
                in_new_process(state_cost, name, num_samples, rounds)
                if run
                else computed_state(name, num_samples)
            )
            rows.append({"state": name, "num_samples": num_samples, "run": run, **found})
            print(f"{name:20s} {num_samples:12,d} {found['bytes_a_sample']:13.4f}"
                  f" {found['state_mib']:11,.1f}", end="")  # fmt: skip
            print(
                f" {found['update_ms']:11.2f} {found['epoch_end_seconds']:13.2f}"
                f" {found['peak_mib']:10,.0f}"
                if run
                else "  computed, not run",
                flush=True,
            )
    return rows


def main() -> None:
    """Prints two tables and, where asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, the small network alone")
    parser.add_argument("--limit-gib", type=float, default=6, help="most memory a state may take")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    rounds = 5 if arguments.quick else 30
    sizes = [10**6, 10**7] if arguments.quick else [10**6, 10**7, 10**8]
    states = bench_states(sizes, rounds, arguments.limit_gib)
    base = in_new_process(imported)
    print(f"\nimports alone: {base:,.0f} MiB at the peak\n")
    print(f"{'network':16s} {'batch':>6s} {'images':>8s} {'peak, MiB':>10s} {'over imports':>13s}")
    processes = []
    for backbone in ["resnet32_cifar"] if arguments.quick else ["resnet18_cifar", "resnet32_cifar"]:
        for batch_size in (64, 256):
            for num_images in (10_000, 50_000):
                peak = in_new_process(training_peak, backbone, batch_size, num_images, 3)
                processes.append({
                    "backbone": backbone, "batch_size": batch_size, "num_images": num_images,
                    "peak_mib": peak,
                })  # fmt: skip
                print(f"{backbone:16s} {batch_size:6d} {num_images:8,d} {peak:10,.0f}"
                      f" {peak - base:13,.0f}", flush=True)  # fmt: skip
    print(f"\n{torch.get_num_threads()} threads, "
          f"{resolve_precision('auto', PartialState().device)} precision")  # fmt: skip
    if arguments.json:
        results = {"states": states, "imports_mib": base, "processes": processes}
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
