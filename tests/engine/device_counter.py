"""Counts what a step asks of a device that cannot be looked at.

Tensors on torch's "meta" device have shapes and no values: whatever would make the host wait for a
GPU (`.item()`, a branch on a tensor, a boolean mask as an index, `.cpu()`) fails there, and every
kernel that a GPU would run is still dispatched, and so counted.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_lt.core.types import Batch

META = torch.device("meta")
_NO_KERNEL = ("empty", "new_empty", "detach", "_unsafe_view", "_reshape_alias", "lift_fresh")
_FROM_HOST = (torch.tensor, torch.as_tensor, torch.from_numpy, torch.asarray)
_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class HostCopyError(AssertionError):
    """A step that feeds the device from the host."""


class KernelCounter(TorchDispatchMode):
    """`kernels`: dispatched operations that are more than a view; `looks`: values read."""

    def __init__(self):
        super().__init__()
        self.kernels, self.looks = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.looks += func is torch.ops.aten._local_scalar_dense.default
        name, is_marker = func.overloadpacket.__name__, func.namespace == "profiler"
        if not (func.is_view or is_marker or name.startswith(_NO_KERNEL)):
            self.kernels += 1
        return func(*args, **(kwargs or {}))


class _OnDevice(KernelCounter):
    """Refuses tensors of the host, but for scalars, which ride along with the kernel."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in _tensors((args, *(kwargs or {}).values())):
            if tensor.device != META and tensor.ndim > 0:
                raise HostCopyError(f"{func}: a tensor of the host is copied to the device")
        return super().__torch_dispatch__(func, types, args, kwargs)


def _tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


class _NoNumbers(TorchFunctionMode):
    """Refuses tensors made of Python numbers: on a GPU a copy, on meta nothing that is seen."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        places = args[1] if func in _INDEXING else ()
        if func in _FROM_HOST or isinstance(places, list):
            raise HostCopyError(f"{func.__name__}: Python numbers are copied to the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def on_device(monkeypatch):
    """Counts the kernels of what is done inside, and fails where the host would wait."""
    with monkeypatch.context() as patch, _NoNumbers(), _OnDevice() as counter:
        # The meta device knows no autocast; in a step ours is only ever switched off.
        patch.setattr(torch, "autocast", lambda device, enabled: nullcontext())
        yield counter


def step_kernels(task, batch, monkeypatch):
    """Kernels of views, forward and backward pass, and the norm of the gradient."""
    task.to(META)
    for memory in task.memories():
        memory.to(META)
    batch = Batch(batch.images.to(META), batch.labels.to(META), batch.index.to(META))
    with on_device(monkeypatch) as counter:
        task(batch).loss.backward()
        torch.nn.utils.get_total_norm([p.grad for p in task.parameters() if p.grad is not None])
    return counter.kernels
