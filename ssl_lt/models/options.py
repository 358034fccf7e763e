"""Which network is learned."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option


@dataclass(frozen=True)
class ModelOptions:
    """The network that is learned."""

    backbone: str = "resnet20_cifar"
    """convnet7_cifar, resnet18_cifar, resnet20_cifar or resnet32_cifar for small images, or any
    model of timm.
    Default: that of --init-from, otherwise resnet20_cifar."""
    width: int | None = option(None, page="all")
    """Channels of the first stage of a *_cifar backbone. Default: the published width."""
    model_kwargs: tuple[str, ...] = option((), page="all")
    """Arguments of timm's model, each as name=value, such as global_pool=avg."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a word that is no name=value."""
        for word in self.model_kwargs:
            if not word.partition("=")[0].isidentifier() or "=" not in word:
                raise ConfigError(f"--model-kwargs: {word!r} is not name=value")

    @property
    def arguments(self) -> dict[str, Any]:
        """`model_kwargs` as Python values; what is no Python value is text."""
        return {
            name: _value(text) for name, _, text in (w.partition("=") for w in self.model_kwargs)
        }


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
