"""Gradient checkpointing: activations are computed again in the backward pass, not kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.batch_norm import batch_norms


def checkpoint_activations(backbone: nn.Module) -> None:
    """Asks a backbone, by timm's interface, to keep the input of each block and no more.

    Args:
        backbone: of a task, which runs it with its own weights.

    Raises:
        ConfigError: it cannot, or nothing of it would be kept anyway.
    """
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        raise ConfigError("--grad-checkpointing: a frozen backbone keeps no activations")
    try:
        backbone.set_grad_checkpointing(enable=True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise ConfigError(
            f"--grad-checkpointing: {type(backbone).__name__} does not support it"
        ) from error


def keep_statistics_once(backbone: nn.Module) -> None:
    """Lets batch norms move their running statistics in the forward pass alone.

    timm's models move them again when a block is computed again. Layers that are made anew, as
    SyncBatchNorm is, have to be told after that.

    Args:
        backbone: whose activations are checkpointed.
    """
    kept: dict[nn.Module, dict[str, Tensor | None]] = {}

    def lend_copies(layer: nn.Module, inputs: Any) -> None:
        # In the backward pass there is a graph that is being gone through.
        if torch._C._current_graph_task_id() != -1:
            kept[layer] = dict(layer._buffers)
            copies = {n: None if b is None else b.clone() for n, b in layer._buffers.items()}
            layer._buffers.update(copies)

    def take_back(layer: nn.Module, inputs: Any, output: Any) -> None:
        layer._buffers.update(kept.pop(layer, {}))

    for _, layer in batch_norms(backbone):
        layer.register_forward_pre_hook(lend_copies)
        # Always: what is computed again ends in an exception, where nothing more is needed.
        layer.register_forward_hook(take_back, always_call=True)
