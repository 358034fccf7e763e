"""One training step on a device, to be compared with the same step on the CPU."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.engine.test_step_counts import finetuning_case, first_batch, pretraining_case

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BATCH = 32


@dataclass(frozen=True)
class Step:
    """Loss and the gradients of a step, one after the other, on the CPU in float64."""

    loss: float
    gradient: Tensor


def case(stage, name):
    """A task of `PRETRAINING` or `FINETUNING` and its data; the same weights at every call."""
    torch.manual_seed(0)
    if stage == "pretraining":
        return pretraining_case(name)
    return finetuning_case(name, batch_size=BATCH, num_classes=6)


def on(device, stage, name, *, size=BATCH):
    """Task and batch there, ready for a step."""
    task, data = case(stage, name)
    task = task.to(device).to(memory_format=torch.channels_last)
    for memory in task.memories():
        memory.to(device)
    batch = first_batch(task, data, batch_size=size, device=device)
    return task, type(batch)(
        batch.images.to(device), batch.labels.to(device), batch.index.to(device)
    )


def step(task, batch, *, dtype=torch.float32, scale=1.0):
    """Forward and backward pass, under autocast where `dtype` is not fp32."""
    with torch.autocast(batch.images.device.type, dtype=dtype, enabled=dtype != torch.float32):
        loss = task(batch).loss
    (loss * scale).backward()
    return loss.detach()


def taken(device, stage, name, *, dtype=torch.float32, scale=1.0):
    """A step from the start, and what came of it."""
    task, batch = on(device, stage, name)
    loss = step(task, batch, dtype=dtype, scale=scale)
    grads = [p.grad.double().cpu().flatten() for p in task.parameters() if p.grad is not None]
    return Step(float(loss), torch.cat(grads) / scale)


def assert_alike(found, expected, *, loss, direction):
    """Losses are equal to a part, and gradients point the same way and are as long, to a part."""
    assert found.gradient.isfinite().all()
    assert abs(found.loss - expected.loss) <= loss * max(abs(expected.loss), 1e-3)
    cosine = F.cosine_similarity(found.gradient, expected.gradient, dim=0)
    assert cosine > 1 - direction
    assert abs(found.gradient.norm() / expected.gradient.norm() - 1) < 3 * direction**0.5


@contextmanager
def no_waiting():
    """Raises where the host waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
