"""Trainings small enough to be done once whole and once in shards, in double precision.

Methods, plug-ins and losses come from the registries: what is registered is trained here.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch.distributed import _functional_collectives as functional

from ssl_lt.cli import pretrain
from ssl_lt.cli.fields import with_values
from ssl_lt.cli.finetune_config import ENTRIES
from ssl_lt.core.errors import NumericError
from ssl_lt.core.random import permutation
from ssl_lt.core.types import Batch
from ssl_lt.engine import parallel
from ssl_lt.engine.checkpoint import newest_checkpoint
from ssl_lt.engine.fit import fit
from ssl_lt.engine.optim import OptimOptions
from ssl_lt.engine.plan import FitOptions, Plan
from ssl_lt.engine.run_folder import RunFolder
from ssl_lt.engine.schedule import ScheduleOptions
from ssl_lt.engine.sharding import Sharding, own_rows
from ssl_lt.engine.signals import Stopped
from ssl_lt.finetune.meta_sampled_task import MetaSampledTask
from ssl_lt.finetune.registry import STEPS
from ssl_lt.finetune.task import ClassifierTask
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from tests.finetune import every_loss
from tests.finetune.every_loss import BATCH_NORMS, LAYER_NORMS

NUM_RANKS = 2
EPOCHS = 2
STOPPED_AT = 6  # within the second epoch
# So slow that rounding is not amplified from step to step.
PLAIN = OptimOptions(lr=1e-4)
# Name -> what is trained on batch norms, and how.
TRAININGS = {
    "simclr+bcl+gh": ("method simclr", {}),
    "nesterov": ("ce", {"optim": OptimOptions(lr=1e-3, nesterov=True), "steps": 2}),
    "clipped, accumulated": (
        "ce",
        {
            "optim": OptimOptions("adamw", lr=1e-4, decay="weights", clip_grad_norm=0.05),
            "options": {"accumulate_steps": 2},
        },
    ),
    "lars": ("ce", {"optim": OptimOptions("lars", lr=0.01, weight_decay=1e-4), "steps": 2}),
}
# Every step of its own kind, and what is not the default: two epochs of a step each.
EVERY = {f"method {name}": LAYER_NORMS for name in METHODS}
EVERY |= {
    name: LAYER_NORMS
    for name, loss in ENTRIES.items()
    if name in STEPS or loss.contrast is not None
}
EVERY |= {
    "la, frozen": {**LAYER_NORMS, "freeze-backbone": True, "sampler": "meta"},
    "la, cosine": {**LAYER_NORMS, "classifier": "cosine"},
    "la, ride": {**BATCH_NORMS, "experts": "ride"},
    "rcl, compressed": {**LAYER_NORMS, "compression": 0.5, "compression-start": 0.0},
}
# What a DTensor sends with; see `ssl_lt.engine.sharding.whole`.
FUNCTIONAL = ("all_reduce", "all_gather_single", "all_gather_tensor", "reduce_scatter_single")
SHORT = {"steps": 1, "options": {"checkpoint_every": 0}}


class Loader:
    """The digits' first 96 in batches of 24; the rank's share of each."""

    def __init__(self, steps_per_epoch, *, stopped_at):
        self.table = every_loss.digits().train
        self.batch_size, self.steps_per_epoch = every_loss.BATCH_SIZE, steps_per_epoch
        self.stopped_at = stopped_at

    def epoch(self, number, *, first_step=0):
        rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        order = permutation(len(self.table), seed=0, epoch=number)
        for step in range(first_step, self.steps_per_epoch):
            if number * self.steps_per_epoch + step == self.stopped_at and rank == ranks - 1:
                os.kill(os.getpid(), signal.SIGTERM)  # one process alone is told to stop
            share = self.batch_size // ranks
            rows = order[step * self.batch_size + rank * share :][:share]
            yield Batch(self.table.pixels[rows], self.table.labels[rows], rows)


def double(task):
    """In float64, where only an error of ours is larger than the tolerance."""
    if isinstance(task, MetaSampledTask):
        return task  # it keeps features in float32
    for part in task.modules():
        if isinstance(part, type(task.backbone)):  # a momentum encoder has another one
            part.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    if isinstance(task, ClassifierTask):
        return task.double()
    task.backbone.double(), task.projector.double()  # the plug-ins are given float32
    return task


def build(name, flags=BATCH_NORMS):
    """The task of a method with every plug-in, or of a loss."""
    method = name.removeprefix("method ")
    if method == name:
        return every_loss.task(name.partition(",")[0], backbone=flags)
    values = {"projector.output-dim": 16, "gh.clusters": 8, "gh.warmup-epochs": 0, "epochs": EPOCHS}
    values |= {"mixed-precision": "no", "num-workers": 0, **flags}
    config = with_values(pretrain.default(method, tuple(PLUGINS)), values, origin="test")
    return pretrain.build_task(config, every_loss.digits())


def seen(task, epoch):
    """What is measured between epochs, on one process more often than on another."""
    images = every_loss.digits().train.pixels[:8].to(next(task.parameters()).dtype)
    task.eval()
    for _ in range(1 + int(os.environ.get("RANK", "0"))):
        with torch.no_grad():
            features = task.backbone(images / 255)
    return {"feature": features.square().mean().item()}


def train(
    task,
    path,
    *,
    optim=PLAIN,
    options=None,
    sharding=None,
    steps=4,
    stopped_at=None,
    precision="no",
):
    """Trains or goes on, as the rank that this process is; what a process held of it."""
    folder = RunFolder(Path(path))
    options = {"epochs": EPOCHS, "log_every": 1, "checkpoint_every": 2, **(options or {})}
    plan = Plan(FitOptions(**options), optim, ScheduleOptions(), 0, sharing=sharding)
    held, built, sent = {}, parallel.build_optimizer, []
    asked = {name: getattr(functional, name) for name in FUNCTIONAL}

    def noted(module, *args, **kwargs):
        held["optimizer"] = built(module, *args, **kwargs)
        held["weights"] = {name: own_rows(p).nbytes for name, p in module.named_parameters()}
        return held["optimizer"]

    parallel.build_optimizer = noted
    for name, function in asked.items():
        setattr(functional, name, partial(_noted, sent, name, function))
    folder.path.mkdir(exist_ok=True)
    AcceleratorState._reset_state(True)  # of a training before, in another precision
    try:
        fit(
            task,
            Loader(steps, stopped_at=stopped_at),
            plan,
            accelerator=Accelerator(cpu=True, mixed_precision=precision),
            folder=folder,
            end_of_epoch=seen,
        )
    except Stopped:
        pass
    finally:
        parallel.build_optimizer = built
        for name, function in asked.items():
            setattr(functional, name, function)
    state = [v for s in held["optimizer"].state.values() for v in s.values() if v.ndim]
    return {
        "weights": sum(held["weights"].values()),
        "state": sum(own_rows(value).nbytes for value in state),
        "functional": sorted(set(sent)),
        "left whole": all(type(p.data) is torch.Tensor for p in task.parameters()),
    }


def _noted(sent, name, function, *args, **kwargs):
    sent.append(name)
    return function(*args, **kwargs)


def result(path):
    """Metrics by step, and all tensors of the newest checkpoint."""
    run = RunFolder(Path(path))
    newest = max(run.checkpoints.glob("step-*"))
    files = {file.stem: load_file(file) for file in sorted(newest.glob("*.safetensors"))}
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return newest.name, lines, files


class BadGradient(ClassifierTask):
    """Its loss is finite and the gradient of the classifier's weight is not."""

    def forward(self, batch):
        output = super().forward(batch)
        nothing = (self.classifier.weight * 0).square().sum().sqrt()
        return replace(output, loss=output.loss + nothing)


class BadUpdate(ClassifierTask):
    """One number of its weights, which rank 0 holds, has a gradient far above all others."""

    def forward(self, batch):
        output = super().forward(batch)
        number = self.classifier.bias[0]
        return replace(output, loss=output.loss + 1e12 * (number - number.detach()))


def error_of(kind, path, **how):
    """The one line that a training ends with."""
    task = double(build("ce"))
    task.__class__ = kind
    try:
        train(task, path, options={"checkpoint_every": 1}, sharding=Sharding(), **how)
    except NumericError as error:
        return str(error)


def as_rank(rank):
    """Makes this process, which the test has connected, one that a launcher could have started."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(NUM_RANKS),
        "LOCAL_WORLD_SIZE": str(NUM_RANKS),
        "MASTER_ADDR": "127.0.0.1",
    }


def in_shards(rank, place):
    """Everything that two processes do, on one of them."""
    as_rank(rank)
    os.fsync = lambda descriptor: None  # slow, and of no use to a process that is not killed
    place, found = Path(place), {}
    for name, (what, how) in TRAININGS.items():
        found[name] = train(double(build(what)), place / name, sharding=Sharding(), **how)
    how = {**TRAININGS["nesterov"][1], "sharding": Sharding(reshard_after_forward=False)}
    train(double(build("ce")), place / "not resharded", **how)
    how = {"sharding": Sharding(), "stopped_at": STOPPED_AT}
    train(double(build("method simclr")), place / "stopped", **how)
    if rank == 0:
        found["stopped"] = newest_checkpoint(place / "stopped/checkpoints").step
    torch.distributed.barrier()
    train(double(build("method simclr")), place / "stopped", sharding=Sharding())
    train(double(build("method simclr")), place / "whole, then sharded", sharding=Sharding())
    train(double(build("method simclr")), place / "sharded, then whole", **how)
    for sharding in (None, Sharding()):
        task = build("ce", {"backbone": "resnet18_cifar", "width": 16})
        path = place / f"bf16, {'DDP' if sharding is None else 'FSDP'}"
        train(task, path, sharding=sharding, steps=2, options={"epochs": 1}, precision="bf16")
    for name, flags in EVERY.items():
        task = double(build(name, flags))
        if not task.needs_whole_weights:
            train(task, place / f"every {name}", sharding=Sharding(), **SHORT)
    found["gradient"] = error_of(BadGradient, place / "gradient")
    found["weights"] = error_of(BadUpdate, place / "weights", optim=OptimOptions(lr=1e300))
    return found
