"""What a step of each pretraining method costs, against SimCLR's in the same run; and Sinkhorn.

- end to end: a step from the loader to the update, checked as the training loop checks it;
- compute only: the same step on one fixed batch of ready views.

The methods take turns, so that whatever else the machine does meets them all alike; medians are
shown.
All are measured in the second half of a training: harmonization computes its assignments, and
boosted samples have weights from 0.5 to 1, so that operations are applied. What a method does once
an epoch (SDCLR's mask, the boost's weights) is not in a step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import PartialState
from bench_throughput import FixedView
from ssl_lt.engine.layout import laid_out
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.cli.commands.pretrain import build_task, default
from ssl_lt.core.precision import resolve_precision
from ssl_lt.core.random import sample_keys
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, Epoch
from ssl_lt.data.dataset import open_data
from ssl_lt.data.loading.plan import BatchPlan, TrainLoader
from ssl_lt.engine.allocator import keep_freed_memory
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.losses.sinkhorn import sinkhorn
from ssl_lt.pretrain.two_views import TwoViewTask
from ssl_lt.runs.config.schema import with_values

# Name in the table -> method, plug-ins, and what is set beside the defaults.
METHODS: dict[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {
    "SimCLR": ("simclr", (), {}),
    "SDCLR": ("sdclr", (), {"prune-ratio": 0.9}),
    "BCL-I": ("simclr", ("bcl",), {"bcl.num-ops": 1}),
    "BCL-D": ("sdclr", ("bcl",), {"prune-ratio": 0.9, "bcl.num-ops": 2}),
    "GH": ("simclr", ("gh",), {"gh.clusters": 100}),
    "BCL+GH": ("simclr", ("bcl", "gh"), {"bcl.num-ops": 1, "gh.clusters": 100}),
}
EPSILON, PLAIN_ITERATIONS = 0.05, 300
Clock = Callable[[], float]
# Beside other programs, processor time with one thread is what can still be compared; CPUs only.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}


def ready_task(name: str, common: Mapping[str, Any]) -> tuple[TwoViewTask, TrainLoader]:
    """A method in its last epoch, and its batches."""
    device = PartialState().device
    method, plugins, own = METHODS[name]
    config = with_values(default(method, plugins), {**common, **own}, origin=name)
    data = open_data(config.data)
    task = laid_out(build_task(config, data), device)
    for memory in task.memories():
        memory.to(device)
        if memory.name == "boost":
            memory.tables["weight"].uniform_(0.5, 1)
        if memory.name == "class_prior":
            memory.tables["prior"] = long_tail(len(memory.tables["prior"])).to(device)
    task.train()
    task.on_epoch_start(Epoch(number=config.fit.epochs - 1, total=config.fit.epochs, steps=1))
    plan = BatchPlan(len(data.train), config.fit.batch_size, seed=0)
    return task, TrainLoader(data.train, plan, device=device)


def long_tail(num_clusters: int) -> Tensor:
    """(K,) shares of imbalance 100."""
    shares = 100.0 ** -torch.linspace(0, 1, num_clusters)
    return shares / shares.sum()


def steppers(name: str, common: Mapping[str, Any]) -> dict[str, Callable[[], None]]:
    """Functions that do one step of a method: end to end, and on ready views."""
    task, loader = ready_task(name, common)
    ready, _ = ready_task(name, common)
    batch = next(loader.epoch(0))
    strength = torch.full((len(batch),), 0.75, device=batch.images.device)
    keys = sample_keys(batch.index, seed=0, epoch=0, view=0)
    ready.view = FixedView(task.view(batch.images, keys, strength))
    return {name: stepper(task, endless(loader)), f"{name}, ready": stepper(ready, repeat(batch))}


def endless(loader: TrainLoader) -> Iterator[Batch]:
    """One epoch after the other."""
    number = 0
    while True:
        yield from loader.epoch(number)
        number += 1


def stepper(task: TrainTask, batches: Iterator[Batch]) -> Callable[[], None]:
    """A function that does one step, checked as the training loop checks it."""
    optimizer = build_optimizer(task, OptimOptions())
    device = PartialState().device
    mixed = resolve_precision("auto", device) == "bf16"

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
            output = task(next(batches))
        output.loss.backward()
        grads = [p.grad for p in task.parameters() if p.grad is not None]
        assert torch.nn.utils.get_total_norm(grads).isfinite()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def in_turn(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    device: torch.device,
    clock: Clock,
) -> dict[str, float]:
    """Median milliseconds of each candidate; one round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            synchronise(device)
            started_at = clock()
            candidate()
            synchronise(device)
            if number:
                seconds[name].append(clock() - started_at)
    return {name: 1e3 * median(found) for name, found in seconds.items()}


def synchronise(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def plain_sinkhorn(logits: Tensor, prior: Tensor) -> Tensor:
    """The released code's assignment: 300 iterations from even factors, without a look."""
    kernel = torch.exp(logits / EPSILON)
    num_rows, num_clusters = kernel.shape
    r = kernel.new_full((num_clusters,), 1 / num_clusters)
    c = kernel.new_full((num_rows,), 1 / num_rows)
    for _ in range(PLAIN_ITERATIONS):
        r = prior / (kernel.T @ c)
        c = 1 / num_rows / (kernel @ r)
    return num_rows * c[:, None] * kernel * r


def clustered_logits(num_rows: int, num_clusters: int, *, device: torch.device) -> Tensor:
    """(N, K) unit rows that point to clusters of imbalance 100, as after long training."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(long_tail(num_clusters), num_rows, True, generator=generator)  # noqa: FBT003
    noise = 0.3 / num_clusters**0.5 * torch.randn(num_rows, num_clusters, generator=generator)
    return F.normalize(F.one_hot(drawn, num_clusters) + noise, dim=1).to(device)


def bench_sinkhorn(
    num_rows: int, num_clusters: int, rounds: int, clock: Clock
) -> dict[str, dict[str, float]]:
    """Milliseconds and the largest error of a cluster's share, ours and the plain iterations'."""
    device = PartialState().device
    logits = clustered_logits(num_rows, num_clusters, device=device)
    # Half way between even shares and those of the logits: the assignment must move samples.
    prior = ((long_tail(num_clusters) + 1 / num_clusters) / 2).to(device)
    candidates = {
        "ours": lambda: sinkhorn(logits, prior, epsilon=EPSILON),
        "300 plain": lambda: plain_sinkhorn(logits, prior),
    }
    milliseconds = in_turn(candidates, rounds=rounds, device=device, clock=clock)
    return {
        name: {
            "milliseconds": milliseconds[name],
            "error": float((candidate().mean(0) - prior).abs().max()),
        }
        for name, candidate in candidates.items()
    }


def bench_steps(common: Mapping[str, Any], rounds: int, clock: Clock) -> dict[str, float]:
    """Median milliseconds a step, of each method and under "NAME, ready" on ready views."""
    candidates: dict[str, Callable[[], None]] = {}
    for name in METHODS:
        candidates |= steppers(name, common)
    return in_turn(candidates, rounds=rounds, device=PartialState().device, clock=clock)


def main() -> None:
    """Prints two tables and, where asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18_cifar")
    parser.add_argument("--width", type=int, help="channels of the first stage; default: usual")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="few rounds, the small Sinkhorn only")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="which time is shown")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    rounds, clock = 2 if arguments.quick else 7, CLOCKS[arguments.clock]
    device = PartialState().device
    if device.type == "cpu":
        keep_freed_memory()
    common = {
        "backbone": arguments.backbone,
        "width": arguments.width,
        "batch-size": arguments.batch_size,
        "imbalance": "none",  # 1,497 digits, enough for any batch
    }
    steps = bench_steps(common, rounds, clock)
    print(f"{'a step, ms':12s} {'end to end':>10s} {'x SimCLR':>9s} {'compute only':>13s}"
          f" {'of compute':>11s}")  # fmt: skip
    for name in METHODS:
        end, compute = steps[name], steps[f"{name}, ready"]
        print(f"{name:12s} {end:10.1f} {end / steps['SimCLR']:9.3f} {compute:13.1f}"
              f" {100 * compute / end:10.1f}%")  # fmt: skip
    shapes = [(512, 100)] if arguments.quick else [(512, 100), (4096, 1000)]
    assignments = {}
    print(f"\n{'Sinkhorn':12s} {'ours, ms':>10s} {'300 plain':>10s} {'x faster':>9s}"
          f" {'error':>9s} {'error plain':>12s}")  # fmt: skip
    for shape in shapes:
        found = bench_sinkhorn(*shape, rounds, clock)
        ours, plain = found["ours"], found["300 plain"]
        assignments[f"{shape[0]}x{shape[1]}"] = found
        print(f"{shape[0]:5d} x {shape[1]:4d} {ours['milliseconds']:10.2f}"
              f" {plain['milliseconds']:10.2f}"
              f" {plain['milliseconds'] / ours['milliseconds']:9.1f}"
              f" {ours['error']:9.1e} {plain['error']:12.1e}")  # fmt: skip
    print(
        f"\n{arguments.backbone}, width {arguments.width or 'usual'}, "
        f"batch {arguments.batch_size}, {torch.get_num_threads()} threads on {device}, "
        f"{resolve_precision('auto', device)} precision, {arguments.clock} time, "
        f"medians of {rounds} rounds"
    )
    if arguments.json:
        results = {"steps_milliseconds": steps, "sinkhorn": assignments}
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
