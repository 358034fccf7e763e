"""What each choice of the training step is worth on a CPU: the step with the other one, in turn.

All steps are SimCLR's on ready views of one batch, checked and updated as the training loop does.
"as it is" stands first; the others differ from it in the one thing that their name says. Medians
are shown, and the ratio to "as it is": above 1, our choice pays.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from bench_methods import in_turn, ready_task
from bench_throughput import FixedView
from ssl_lt.models.patch_convolution import PatchConv2d
from torch import Tensor, nn

from ssl_lt.core.random import sample_keys
from ssl_lt.core.types import Batch
from ssl_lt.engine.allocator import keep_freed_memory
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.pretrain.simclr import SimCLR
from ssl_lt.pretrain.two_views import TwoViewTask

Setting = Callable[[], AbstractContextManager[Any]]
AS_IT_IS = "as it is"
BF16: dict[str, Any] = {"dtype": torch.bfloat16}
NO_CACHE, FP32 = {**BF16, "cache_enabled": False}, {"enabled": False}


def simclr(backbone: str, batch_size: int) -> tuple[TwoViewTask, Batch]:
    """SimCLR with views that are ready, and the batch they are of."""
    common = {"backbone": backbone, "batch-size": batch_size, "imbalance": "none"}
    task, loader = ready_task("SimCLR", common)
    batch = next(loader.epoch(0))
    task.view = FixedView(
        task.view(batch.images, sample_keys(batch.index, seed=0, epoch=0, view=0))
    )
    return task, batch


def stepper(
    task: nn.Module,
    batch: Batch,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    setting: Setting = nullcontext,
    autocast: dict[str, Any] = BF16,
    set_to_none: bool = True,
) -> Callable[[], None]:
    """A step in bf16, as the training loop takes it but for what is given."""
    chosen = optimizer or build_optimizer(task, OptimOptions())
    batches = repeat(batch)

    def step() -> None:
        with setting():
            with torch.autocast("cpu", **autocast):
                output = task(next(batches))
            output.loss.backward()
            grads = [p.grad for p in task.parameters() if p.grad is not None]
            assert torch.nn.utils.get_total_norm(grads).isfinite()
            chosen.step()
            chosen.zero_grad(set_to_none=set_to_none)

    return step


class Fp32BatchNorm(nn.BatchNorm2d):
    """Batch norm that gives fp32 activations."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, H, W)."""
        return super().forward(input.float())


class TwoPasses(SimCLR):
    """A forward pass for each view; batch norm then sees each view alone."""

    def embed(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (B, D) of the two views."""
        return self.projector(self.backbone(x1)), self.projector(self.backbone(x2))


@contextmanager
def as_class(module: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> Iterator[None]:
    """Every submodule of one class is of another inside."""
    found = [m for m in module.modules() if type(m) is old]
    for part in found:
        part.__class__ = new
    try:
        yield
    finally:
        for part in found:
            part.__class__ = old


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """On this thread; those that it starts keep their own mode."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def products_rounded() -> Iterator[None]:
    """What oneDNN computes takes fp32 operands for bf16 ones."""
    backends = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "bf16"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def candidates(backbone: str, batch_size: int) -> dict[str, Callable[[], None]]:
    """Name -> step."""
    (task, batch), (zeroed, _), (contiguous, _) = (simclr(backbone, batch_size) for _ in range(3))
    contiguous.to(memory_format=torch.contiguous_format)
    weights = [p for p in task.parameters() if p.requires_grad]

    def sgd(**how: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=5e-4, **how)

    def among(old: type[nn.Module], new: type[nn.Module]) -> Setting:
        return partial(as_class, task, old, new)

    return {
        AS_IT_IS: stepper(task, batch),
        "foreach optimiser, not fused": stepper(task, batch, optimizer=sgd(foreach=True)),
        "optimiser a weight at a time": stepper(task, batch, optimizer=sgd(foreach=False)),
        "gradients zeroed, not dropped": stepper(zeroed, batch, set_to_none=False),
        "weights cast anew at each use": stepper(task, batch, autocast=NO_CACHE),
        "batch norm in fp32": stepper(task, batch, setting=among(nn.BatchNorm2d, Fp32BatchNorm)),
        "a forward pass a view": stepper(task, batch, setting=among(SimCLR, TwoPasses)),
        "small maps as convolutions": stepper(task, batch, setting=among(PatchConv2d, nn.Conv2d)),
        "denormals flushed": stepper(task, batch, setting=denormals_flushed),
        "contiguous (NCHW)": stepper(contiguous, batch),
        "fp32": stepper(task, batch, autocast=FP32),
        "fp32, products rounded to bf16": stepper(
            task, batch, autocast=FP32, setting=products_rounded
        ),
    }


def compiled(backbone: str, batch_size: int) -> dict[str, Callable[[], None]]:
    """The step as it is and that of the compiled task, whose first one is timed here."""
    task, batch = simclr(backbone, batch_size)
    step = stepper(torch.compile(task), batch)
    started_at = time.perf_counter()
    step()
    print(f"first compiled step: {time.perf_counter() - started_at:.1f} s", flush=True)
    return {AS_IT_IS: stepper(task, batch), "compiled": step}


def main() -> None:
    """Prints a table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18_cifar")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="names that begin like one of these"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="compare these instead")
    parser.add_argument("--compile", action="store_true", help="compare the compiled step instead")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    keep_freed_memory()
    sizes = dict.fromkeys([AS_IT_IS], arguments.batch_size)
    if arguments.batch_sizes:
        sizes = {f"batch {size}": size for size in arguments.batch_sizes}
        steps = {name: stepper(*simclr(arguments.backbone, n)) for name, n in sizes.items()}
    elif arguments.compile:
        steps = compiled(arguments.backbone, arguments.batch_size)
    else:
        steps = candidates(arguments.backbone, arguments.batch_size)
        wanted = (AS_IT_IS, *arguments.only)
        steps = {name: step for name, step in steps.items() if name.startswith(wanted)}
    found = in_turn(
        steps, rounds=arguments.rounds, device=torch.device("cpu"), clock=time.perf_counter
    )
    images = {name: sizes.get(name, arguments.batch_size) for name in found}
    first = next(iter(found))
    print("| SimCLR | ms a step | ms an image | times the first |\n|---|---:|---:|---:|")
    for name, milliseconds in found.items():
        each = milliseconds / images[name]
        ratio = each / (found[first] / images[first])
        print(f"| {name} | {milliseconds:,.1f} | {each:.2f} | {ratio:.3f} |")
    print(
        f"\n{arguments.backbone}, batch {arguments.batch_size}, {torch.get_num_threads()} threads, "
        f"bf16 but where it says fp32, medians of {arguments.rounds} rounds"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
