"""What can go wrong in one of several processes, at the sixth step of its training."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

from ssl_lt.core.errors import DataError
from ssl_lt.engine.update import Update
from ssl_lt.pretrain.simclr import SimCLR

STEP = 6


def _before_the_step(act):
    update = Update.__call__

    def patched(self, batches, *, step, lr):
        if step + 1 == STEP:
            act()
        return update(self, batches, step=step, lr=lr)

    Update.__call__ = patched


def killed():
    _before_the_step(lambda: os.kill(os.getpid(), signal.SIGKILL))


def silent():
    _before_the_step(lambda: time.sleep(600))


def stopped():
    _before_the_step(lambda: os.kill(os.getpid(), signal.SIGTERM))


def _raise(error):
    raise error


def damaged_image():
    _before_the_step(lambda: _raise(DataError("photos/x.jpg: not an image")))


def fault_of_the_program():
    _before_the_step(lambda: _raise(ZeroDivisionError("a fault of the program")))


def without_memory():
    allocate = "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: no"
    _before_the_step(lambda: _raise(RuntimeError(allocate)))


def poisoned_sample():
    """The fourth sample of the process has no loss."""
    pair_losses, calls = SimCLR.pair_losses, []

    def poisoned(self, z1, z2):
        calls.append(1)
        losses = pair_losses(self, z1, z2)
        if len(calls) == STEP:
            losses = losses.clone()
            losses[3] = float("nan")
        return losses

    SimCLR.pair_losses = poisoned


def other_data():
    """One image is missing where this process looks."""
    import ssl_lt.data.dataset as build

    choose = build.choose_split

    def chosen(options, source, **kept):
        split = choose(options, source, **kept)
        return replace(split, data_sha256="other", indices=split.indices[1:])

    build.choose_split = chosen


def other_version():
    import importlib.metadata as metadata

    version = metadata.version
    metadata.version = lambda name: "1.0" if name == "timm" else version(name)
