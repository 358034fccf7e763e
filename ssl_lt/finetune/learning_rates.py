"""How fast each part of a network learns while it is fine-tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option


@dataclass(frozen=True)
class RateOptions:
    """Learning rates beside that of the optimiser."""

    head_lr: float | None = option(None, page="all")
    """Peak learning rate of what stands on the backbone; none: --lr, as for the backbone."""
    layer_decay: float = option(1.0, page="all")
    """The learning rate of a layer of the backbone is that of the layer above it times this; the
    topmost has --lr."""

    def __post_init__(self) -> None:
        check_range(self, {"head_lr": "(0, inf)", "layer_decay": "(0, 1]"})


def lr_scales(backbone: nn.Module, options: RateOptions, *, lr: float) -> Callable[[str], float]:
    """Factors on the learning rate, by name of the parameter in the task.

    Layers are those that timm's models group for this purpose, from the stem (0) to the topmost
    (L): layer k of `backbone` has `layer_decay^(L - k)`, everything else `head_lr / lr`.

    Args:
        backbone: of the task, where its parameters are named `backbone.*`.
        options: the rates.
        lr: peak learning rate of the optimiser.

    Raises:
        ConfigError: layers are asked for and the network does not know its own.
    """
    head = 1.0 if options.head_lr is None else options.head_lr / lr
    layers = dict.fromkeys((name for name, _ in backbone.named_parameters()), 0)
    if options.layer_decay != 1:
        layers = _layers(backbone)
    top = max(layers.values())
    known = {
        f"backbone.{name}": options.layer_decay ** (top - layer) for name, layer in layers.items()
    }
    return lambda name: known.get(name, head)


def _layers(backbone: nn.Module) -> dict[str, int]:
    """Name of a parameter -> its layer, 0 next to the image."""
    from timm.models import group_parameters  # imports slowly, and few runs need it

    matcher = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise ConfigError(f"--layer-decay: {type(backbone).__name__} does not name its layers")
    found: dict[str, int] = group_parameters(backbone, matcher(coarse=False), reverse=True)
    return found
