"""Which network is learned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelOptions:
    """The network that is learned."""

    backbone: str = "resnet20_cifar"
    """resnet18_cifar, resnet20_cifar, resnet32_cifar for small pictures, or any model of timm."""
    width: int | None = None
    """Channels of the first stage, for the backbones named *_cifar; none: the usual width."""
