"""Which part of a training step each operation belongs to, as torch's profiler saw it on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from ssl_lt.core.task import TrainTask

VIEWS, PLUGINS, UPDATE, CLEARING, CHECK = "views", "plug-ins", "update", "clearing", "check"
FORWARD, BACKWARD, NORM = "conv forward", "conv backward", "batch norm"
SMALL_MAPS = "small maps"
ELEMENTWISE, LOSS, COPIES, REST = "relu, add, pool", "linear, loss", "casts, copies", "rest"
# The last takes what has no other place: Python, autograd's bookkeeping, memory for results.
PARTS = (
    VIEWS, FORWARD, BACKWARD, SMALL_MAPS, NORM, ELEMENTWISE, LOSS, PLUGINS, COPIES, UPDATE,
    CLEARING, CHECK, REST,
)  # fmt: skip
_OPERATIONS = {
    FORWARD: "convolution",
    BACKWARD: "convolution_backward",
    NORM: "native_batch_norm native_batch_norm_backward batch_norm_backward",
    ELEMENTWISE: "relu_ relu threshold_backward add add_ mean constant_pad_nd slice_backward"
    " adaptive_avg_pool2d",
    LOSS: "linear addmm mm matmul div div_ sub neg sum linalg_vector_norm scatter_ gather where"
    " clamp_min log_softmax _log_softmax _log_softmax_backward_data nll_loss_forward"
    " nll_loss_backward cross_entropy_loss softmax _softmax_backward_data logsumexp exp"
    " masked_fill masked_fill_ index index_select index_add_ eq argmax stack",
    # Outside views, plug-ins and losses only SDCLR multiplies much: its weights with the mask.
    PLUGINS: "mul mul_",
    COPIES: "_to_copy copy_ clone cat",
}
PART_OF = {f"aten::{name}": part for part, names in _OPERATIONS.items() for name in names.split()}
_MARK = "part: "  # tells a scope from an operation
# Both passes of `ssl_lt.models.patch_convolution` are scopes as well.
_SCOPES = {"PatchProduct": SMALL_MAPS, "PatchProductBackward": SMALL_MAPS}


def scope(part: str) -> record_function:
    """Whatever is done inside belongs to `part`."""
    return record_function(_MARK + part)


def mark_scopes(task: TrainTask) -> None:
    """Makes a task's views and plug-ins scopes; their backward passes are none."""
    for name in ("view", "contrast_view"):
        if isinstance(view := getattr(task, name, None), nn.Module):
            view.forward = _scoped(view.forward, VIEWS)  # type: ignore[method-assign]
    for plugin in getattr(task, "plugins", ()):
        for name in ("strength", "terms", "observe"):
            setattr(plugin, name, _scoped(getattr(plugin, name), PLUGINS))


def _scoped(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    def inside(*arguments: Any, **named: Any) -> Any:
        with scope(part):
            return function(*arguments, **named)

    return inside


def profiled(step: Callable[[], None]) -> dict[str, float]:
    """Milliseconds of each part of a step; they add up to all of it, the profiler's cost included.

    Only the host is looked at: of a device that computes by itself this says nothing.
    """
    with profile(activities=[ProfilerActivity.CPU]) as recorded, scope(REST):
        step()
    return by_part(recorded.events())


def by_part(events: Iterable[FunctionEvent]) -> dict[str, float]:
    """Milliseconds of each part: of every operation the time that it does not spend in others.

    An operation belongs to the scope it is in; outside of scopes, to the part its name says; and
    where that says nothing, to the part of the operation that it serves.
    """
    milliseconds = dict.fromkeys(PARTS, 0.0)
    for event in events:
        if event.cpu_parent is None:
            _add(event, milliseconds, part=REST, owner=None)
    return milliseconds


def _add(
    event: FunctionEvent, milliseconds: dict[str, float], *, part: str, owner: str | None
) -> None:
    if event.name.startswith(_MARK):
        part = event.name.removeprefix(_MARK)
        owner = None if part == REST else part
    owner = owner or _SCOPES.get(event.name)
    part = owner or PART_OF.get(event.name, part)
    milliseconds[part] += event.self_cpu_time_total / 1e3
    for child in event.cpu_children:
        _add(child, milliseconds, part=part, owner=owner)
