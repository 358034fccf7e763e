"""Where the time of a training step goes, and how near it comes to what the machine could do.

One row a method, end to end: batch, views, forward and backward pass, check, update. Parts are
torch's profiler's; profiled and plain steps take turns, medians are shown. "Sum" is that of all
parts over a plain step: what is above 100 % is the profiler's own cost. Gradients to the input and
to the weights come out of one call, whose time they share here as each does when called alone.

The second table sets the plain step against three limits:

- arithmetic: all FLOPs at the rate of a large matrix product in the step's precision;
- memory: all bytes that fused operations would still move, at the rate of a large copy. The larger
  of the two is "the limit", as a perfect program would do both at a time;
- convolutions alone: those of the step, each called by itself. What the library's kernels allow;
  small maps, which are matrix products (`ssl_lt/models/patch_convolution.py`), are not in it.

The third takes these apart: a line a shape, and the share of the arithmetic rate that it reaches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import PartialState
from bench_methods import METHODS, endless, ready_task
from machine_rates import Alone, Rates, alone, measure_rates, summed
from ssl_lt.engine.layout import laid_out
from step_parts import BACKWARD, CHECK, CLEARING, PARTS, UPDATE, mark_scopes, profiled, scope
from step_work import Layer, Work, work_of

from ssl_lt.core.precision import resolve_precision
from ssl_lt.core.task import TrainTask
from ssl_lt.data.dataset import open_data
from ssl_lt.data.loading.plan import BatchPlan, TrainLoader
from ssl_lt.engine.allocator import keep_freed_memory
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.runs.config import finetune as finetune_config
from ssl_lt.runs.config.schema import with_values
from tests.configs import finetuning as supervised

# Name in the table -> loss, and what is set beside the defaults.
RECIPES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "la": ("la", {}),
    "scl": ("scl", {"augment": "autoaugment"}),
    "bcl": ("bcl", {"augment": "autoaugment"}),
    "rcl": ("rcl", {"augment": "autoaugment"}),
}
TO_INPUT, TO_WEIGHT = "conv to input", "conv to weight"
COLUMNS = [
    column for part in PARTS for column in ([TO_INPUT, TO_WEIGHT] if part == BACKWARD else [part])
]


@dataclass(frozen=True)
class Found:
    """One method.

    Attributes:
        parts: milliseconds of each of `PARTS`, in a profiled step.
        plain: milliseconds of a step that nobody watches.
        work: FLOPs and bytes.
    """

    parts: dict[str, float]
    plain: float
    work: Work


def ready(name: str, common: Mapping[str, Any]) -> tuple[TrainTask, TrainLoader]:
    """A method, or a recipe of fine-tuning, and its batches."""
    if name in METHODS:
        return ready_task(name, common)
    loss, own = RECIPES[name]
    config = with_values(finetune_config.default(loss), {**common, **own}, origin=name)
    data = open_data(config.data)
    device = PartialState().device
    task = laid_out(supervised.build_task(config, data), device)
    task.train()
    plan = BatchPlan(len(data.train), config.fit.batch_size, seed=0)
    return task, TrainLoader(data.train, plan, device=device)


class Step:
    """A step as the training loop takes it, its parts marked for the profiler."""

    def __init__(self, task: TrainTask, loader: TrainLoader) -> None:
        mark_scopes(task)
        self.task, self.batches = task, endless(loader)
        self.optimizer = build_optimizer(task, OptimOptions())
        self.device = PartialState().device
        self.mixed = resolve_precision("auto", self.device) == "bf16"

    def __call__(self) -> None:
        """One update."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            output = self.task(next(self.batches))
        output.loss.backward()
        with scope(CHECK):
            grads = [p.grad for p in self.task.parameters() if p.grad is not None]
            assert torch.nn.utils.get_total_norm(grads).isfinite()
        with scope(UPDATE):
            self.optimizer.step()
        with scope(CLEARING):
            self.optimizer.zero_grad(set_to_none=True)


def measure(step: Step, *, rounds: int) -> Found:
    """Plain and profiled steps in turn; the step that is counted also warms up."""
    work = work_of(step, step.task, step.optimizer)
    plain: list[float] = []
    watched: list[dict[str, float]] = []
    for _ in range(rounds):
        started_at = time.perf_counter()
        step()
        plain.append(1e3 * (time.perf_counter() - started_at))
        watched.append(profiled(step))
    parts = {part: median(found[part] for found in watched) for part in PARTS}
    return Found(parts, median(plain), work)


def columns(parts: Mapping[str, float], convolutions: Alone) -> dict[str, float]:
    """`parts` with the backward pass of convolutions in two, in proportion to `convolutions`."""
    both = parts[BACKWARD]
    share = convolutions.to_input / (convolutions.to_input + convolutions.to_weight)
    divided = {**parts, TO_INPUT: share * both, TO_WEIGHT: (1 - share) * both}
    return {column: divided[column] for column in COLUMNS}


def parts_table(found: Mapping[str, Found], times: dict[Layer, Alone]) -> list[str]:
    """Markdown: a column a method, its parts in milliseconds."""
    shown = {name: columns(f.parts, summed(f.work.layers, times)) for name, f in found.items()}
    lines = [f"| a step, ms | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    for column in COLUMNS:
        cells = [f"{parts[column]:,.1f}" for parts in shown.values()]
        lines.append(f"| {column} | {' | '.join(cells)} |")
    totals = [f"{f.plain:,.0f}" for f in found.values()]
    sums = [f"{100 * sum(f.parts.values()) / f.plain:.0f} %" for f in found.values()]
    return [*lines, f"| plain step | {' | '.join(totals)} |", f"| sum | {' | '.join(sums)} |"]


def limits_table(
    found: Mapping[str, Found], times: dict[Layer, Alone], rates: Rates, flops_a_second: float
) -> list[str]:
    """Markdown: a line a method, its plain step against the limits."""
    lines = [
        "| a step | GFLOPs | of convolutions | GB | arithmetic, ms | memory, ms | step, ms |"
        " limit reached | convolutions alone, ms | of the step |",
        "|---|" + "---:|" * 9,
    ]
    for name, f in found.items():
        work, kernels = f.work, summed(f.work.layers, times).total
        arithmetic = 1e3 * work.flops / flops_a_second
        memory = 1e3 * work.moved_bytes / rates.memory
        lines.append(
            f"| {name} | {work.flops / 1e9:,.1f} | {100 * work.conv_flops / work.flops:.1f} % |"
            f" {work.moved_bytes / 1e9:.2f} | {arithmetic:,.1f} | {memory:,.1f} | {f.plain:,.0f} |"
            f" {100 * max(arithmetic, memory) / f.plain:.0f} % |"
            f" {kernels:,.0f} | {100 * kernels / f.plain:.0f} % |"
        )
    return lines


def layers_table(work: Work, times: dict[Layer, Alone], flops_a_second: float) -> list[str]:
    """Markdown: a line a shape of convolution."""
    lines = [
        "| input | weight | stride | calls | forward, ms | to input, ms | to weight, ms |"
        " share of the rate |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for layer, calls in reversed(work.layers.items()):  # met in the backward pass
        found = times[layer]
        milliseconds = (found.forward, found.to_input, found.to_weight)
        best = 1e3 * layer.flops / flops_a_second
        shares = " / ".join(f"{100 * best / ms:.0f}" if ms else "-" for ms in milliseconds)
        lines.append(
            f"| {' x '.join(map(str, layer.x))} | {' x '.join(map(str, layer.weight))} |"
            f" {layer.settings[0][0]} | {calls} |"
            f" {' | '.join(f'{ms:.1f}' for ms in milliseconds)} | {shares} % |"
        )
    return lines


def as_json(found: Mapping[str, Found], times: dict[Layer, Alone], rates: Rates) -> str:
    """All numbers of the tables."""
    methods = {
        name: {
            "parts_milliseconds": f.parts,
            "plain_milliseconds": f.plain,
            "conv_flops": f.work.conv_flops,
            "other_flops": f.work.other_flops,
            "saved_bytes": f.work.saved_bytes,
            "weight_bytes": f.work.weight_bytes,
            "alone_milliseconds": asdict(summed(f.work.layers, times)),
        }
        for name, f in found.items()
    }
    return json.dumps({"rates": asdict(rates), "methods": methods}, indent=2) + "\n"


def main() -> None:
    """Prints three tables and, where asked, writes them as JSON."""
    names = [*METHODS, *RECIPES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18_cifar")
    parser.add_argument("--width", type=int, help="channels of the first stage; default: usual")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--methods", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, short measurements")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    keep_freed_memory()
    rounds, seconds = (1, 0.02) if arguments.quick else (arguments.rounds, 0.2)
    common = {
        "backbone": arguments.backbone,
        "width": arguments.width,
        "batch-size": arguments.batch_size,
        "imbalance": "none",  # 1,497 digits, enough for any batch
    }
    found: dict[str, Found] = {}
    for name in arguments.methods:
        found[name] = measure(Step(*ready(name, common)), rounds=rounds)
        print(f"{name}: {found[name].plain:,.0f} ms", flush=True)
    layers = {layer for f in found.values() for layer in f.work.layers}
    times = {layer: alone(layer, at_least=seconds) for layer in layers}
    rates = measure_rates(at_least=5 * seconds)
    precision = resolve_precision("auto", PartialState().device)
    rate = rates.bf16 if precision == "bf16" else rates.fp32
    print("", *parts_table(found, times), "", sep="\n")
    print(*limits_table(found, times, rates, rate), "", sep="\n")
    print(*layers_table(found[arguments.methods[0]].work, times, rate), "", sep="\n")
    print(
        f"bf16 {rates.bf16 / 1e9:,.0f} GFLOP/s, fp32 {rates.fp32 / 1e9:,.0f} GFLOP/s, "
        f"copy {rates.memory / 1e9:.1f} GB/s; {arguments.backbone}, width "
        f"{arguments.width or 'usual'}, batch {arguments.batch_size}, {torch.get_num_threads()} "
        f"threads, {precision} precision, medians of {rounds} rounds"
    )
    if arguments.json:
        arguments.json.write_text(as_json(found, times, rates))


if __name__ == "__main__":
    main()
