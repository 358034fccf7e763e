"""Parts of a network's own weights: norms, biases, the last blocks or stages."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.tuning.insertion import network_name

# Blocks of ViTs; stages of EfficientNets, ConvNeXts, Swins, RegNets, ResNets and our experts.
_STAGE = re.compile(r"^(?:experts\.\d+\.)?(?:blocks|stages|layers?|s)\.?(\d+)\.")


def every_weight(backbone: nn.Module) -> Collection[str]:
    """All."""
    return {name for name, _ in backbone.named_parameters()}


def norms(backbone: nn.Module) -> Collection[str]:
    """Weights and biases of norm layers of whatever library: those with "norm" in their class."""
    return {
        f"{layer_name}.{name}"
        for layer_name, layer in backbone.named_modules()
        if "norm" in type(layer).__name__.lower()
        for name, _ in layer.named_parameters(recurse=False)
    }


def biases(backbone: nn.Module) -> Collection[str]:
    """Biases of all layers, norms among them, as in BitFit (arXiv:2106.10199)."""
    return {name for name in every_weight(backbone) if name.endswith("bias")}


def last_stages(backbone: nn.Module, count: int) -> Collection[str]:
    """The last blocks of a ViT or stages of a convolutional network, and all that follows them.

    Raises:
        ConfigError: there are fewer, or none.
    """
    names = [name for name, _ in backbone.named_parameters()]
    found = {name: int(match[1]) for name in names if (match := _STAGE.match(name))}
    stages = sorted(set(found.values()))
    if count > len(stages):
        raise ConfigError(
            f"--tune last-{count}: {network_name(backbone)} has {len(stages) or 'no'} blocks or "
            "stages"
        )
    # In the order of the forward pass: what stands after the last stage is its norm and the like.
    end = max(place for place, name in enumerate(names) if name in found)
    return {
        name
        for place, name in enumerate(names)
        if found.get(name, -1) >= stages[-count] or place > end
    }
