"""What the kinds of light fine-tuning share: finding their places, and taking them.

An insertion is a child, named after its kind, of a layer whose class is replaced by one that uses
it. All keys of the plain network so stay, and every new key has the kind as one of its parts:
`blocks.0.attn.qkv.lora.q.a`.
"""

from __future__ import annotations

import math
from typing import Any, cast

from torch import nn

from ssl_lt.core.errors import ConfigError


class Insertion(nn.Module):
    """What is put into a layer.

    Attributes:
        plain_class: of the layer before.
    """

    plain_class: type[nn.Module]


def put(layer: nn.Module, kind: str, inserted: Insertion, *, tuned: type[nn.Module]) -> None:
    """Makes `inserted` the child `kind` of a layer that from now on is of class `tuned`."""
    inserted.plain_class = type(layer)
    layer.add_module(kind, inserted)
    layer.__class__ = tuned


def take_out(layer: nn.Module, kind: str) -> None:
    """Undoes `put`; the layer's own weights stay as they are."""
    layer.__class__ = cast(Insertion, getattr(layer, kind)).plain_class
    delattr(layer, kind)


def network_name(backbone: nn.Module) -> str:
    """Of its architecture, for messages."""
    known: Any = getattr(backbone, "pretrained_cfg", None) or {}
    return str(known.get("architecture", type(backbone).__name__))


def transformer_blocks(backbone: nn.Module, *, kind: str) -> list[Any]:
    """The blocks of timm's ViTs, DINOv2's and EVA's among them, from the image upwards.

    Raises:
        ConfigError: there are none.
    """
    from timm.models.eva import EvaBlock  # seconds to import
    from timm.models.vision_transformer import Block

    found = [layer for layer in backbone.modules() if isinstance(layer, Block | EvaBlock)]
    if not found:
        raise ConfigError(
            f"--tune {kind}: {network_name(backbone)} has no transformer blocks; any network has "
            "ssf, norms and bias"
        )
    return found


def bottleneck(num_classes: int, num_blocks: int) -> int:
    """Width `2^max(0, floor(log2(C / (2 L))))` for C classes and L blocks, as in LIFT.

    All adapters together then have about as many weights as the classifier.
    """
    return int(2 ** max(0, math.floor(math.log2(num_classes / (2 * num_blocks)))))
