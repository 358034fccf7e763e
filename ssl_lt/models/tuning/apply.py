"""Preparing a backbone for the kind of fine-tuning that was chosen."""

from __future__ import annotations

from torch import nn

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.tuning.insertion import network_name
from ssl_lt.models.tuning.merge import place_of
from ssl_lt.models.tuning.registry import TUNINGS, read_kind


def apply_tuning(
    backbone: nn.Module, tune: str, *, num_classes: int, dim: int | None = None
) -> None:
    """Inserts what the kind inserts, and lets nothing else train than what it trains.

    What is inserted changes nothing of what the network gives until it is trained. New weights are
    drawn from torch's generator.

    Args:
        backbone: plain; changed in place.
        tune: a registered kind, such as "lora" or "last-2".
        num_classes: C.
        dim: width of the bottleneck; None: by the number of classes.

    Raises:
        ConfigError: the network has no place for it.
    """
    kind, last = read_kind(tune)
    tuning = TUNINGS[kind]
    if tuning.insert is not None:
        tuning.insert(backbone, num_classes, dim)
    own = tuning.trained(backbone, last)
    trained = 0
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in own or place_of(name) is not None)
        trained += parameter.requires_grad
    if not trained and kind != "head":
        raise ConfigError(f"--tune {tune}: {network_name(backbone)} has none of these weights")


def trained_share(*modules: nn.Module) -> str:
    """How many of the weights train: "0.18 M of 85.8 M weights"."""
    weights = [parameter for module in modules for parameter in module.parameters()]
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    return f"{trained / 1e6:.3g} M of {sum(w.numel() for w in weights) / 1e6:.3g} M weights"
