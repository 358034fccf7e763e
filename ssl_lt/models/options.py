"""Which network is learned."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_lt.core.options import option


@dataclass(frozen=True)
class ModelOptions:
    """The network that is learned."""

    backbone: str = "resnet20_cifar"
    """resnet18_cifar, resnet20_cifar or resnet32_cifar for small images, or any model of timm."""
    width: int | None = option(None, page="all")
    """Channels of the first stage of a *_cifar backbone. Default: the published width."""
