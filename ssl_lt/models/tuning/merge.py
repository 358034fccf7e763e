"""From a tuned network to a plain one that gives the same."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from ssl_lt.core.errors import CheckpointError
from ssl_lt.models.tuning.insertion import take_out
from ssl_lt.models.tuning.registry import INSERTED, TUNINGS

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Place:
    """Where an inserted tensor is: "layer", "lora" and "q.a" of "layer.lora.q.a"."""

    layer: str
    kind: str
    key: str


def place_of(name: str) -> Place | None:
    """Of a key of a tuned network; None where the plain network has it, too."""
    for kind in INSERTED:
        layer, found, key = name.partition(f".{kind}.")
        if found:
            return Place(layer, kind, key)
    return None


def merged_state(tensors: Mapping[str, Tensor], *, of: str) -> dict[str, Tensor]:
    """The tensors of a plain network from those of a tuned one; others stay as they are.

    Args:
        tensors: by key, under any prefix.
        of: file or network, for messages.

    Raises:
        CheckpointError: what is inserted cannot be merged, or is not whole.
    """
    plain: dict[str, Tensor] = {}
    inserted: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        place = place_of(name)
        if place is None:
            plain[name] = tensor
        else:
            inserted[place.layer, place.kind][place.key] = tensor
    for (layer, kind), own in inserted.items():
        merge = TUNINGS[kind].merge
        if merge is None:
            raise CheckpointError(
                f"{of}: what --tune {kind} inserted cannot be merged into a plain network"
            )
        try:
            weight, bias = merge(plain[f"{layer}.weight"], plain.get(f"{layer}.bias"), own)
        except KeyError as error:
            raise CheckpointError(f"{of}: {layer}: {error} is missing beside {kind}") from error
        plain[f"{layer}.weight"] = weight
        if bias is not None:
            plain[f"{layer}.bias"] = bias
    return plain


def merged(network: ModuleT) -> ModuleT:
    """A copy without what was inserted, which gives the same; with it where it has to stay."""
    copied = copy.deepcopy(network)
    if has_to_stay(copied) is not None:
        return copied
    state = merged_state(copied.state_dict(), of="network")
    for layer in copied.modules():
        for kind in INSERTED:
            if kind in dict(layer.named_children()):
                take_out(layer, kind)
    copied.load_state_dict(state)
    return copied


def has_to_stay(network: nn.Module) -> str | None:
    """The kind of what is inserted and cannot be merged, or None."""
    for name, _ in network.named_parameters():
        place = place_of(name)
        if place is not None and TUNINGS[place.kind].stays:
            return place.kind
    return None
