"""The kinds of fine-tuning that `finetune.py --tune` knows: one line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ssl_lt.models.tuning import adaptformer, lora, ssf
from ssl_lt.models.tuning.subsets import biases, every_weight, last_stages, norms

Merge = Callable[[Tensor, Tensor | None, Mapping[str, Tensor]], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Tuning:
    """What `--tune KIND` trains of a backbone; the classifier always trains.

    Attributes:
        description: a few words.
        trained: (backbone, K of last-K) -> names of its own weights that train.
        insert: (backbone, number of classes, `--adapter-dim`) puts in what trains instead; None:
            nothing is inserted.
        merge: (weight, bias, what is inserted, by key) -> weight and bias of a plain layer that
            gives the same; None: what is inserted cannot be merged.
        has_dim: it has a bottleneck, which `--adapter-dim` sets.
    """

    description: str
    trained: Callable[[nn.Module, int], Collection[str]] = lambda backbone, last: ()
    insert: Callable[[nn.Module, int, int | None], None] | None = None
    merge: Merge | None = None
    has_dim: bool = False

    @property
    def stays(self) -> bool:
        """What it inserts stays in the network for good."""
        return self.insert is not None and self.merge is None


TUNINGS: dict[str, Tuning] = {
    "all": Tuning("every weight", lambda backbone, last: every_weight(backbone)),
    "head": Tuning("the classifier alone"),
    "norms": Tuning("norm layers", lambda backbone, last: norms(backbone)),
    "bias": Tuning("biases (BitFit)", lambda backbone, last: biases(backbone)),
    "last-K": Tuning("the last K blocks or stages", last_stages),
    "adaptformer": Tuning("an adapter beside each MLP", insert=adaptformer.insert, has_dim=True),
    "lora": Tuning(
        "low-rank updates of queries and values",
        insert=lora.insert,
        merge=lora.merge,
        has_dim=True,
    ),
    "ssf": Tuning("a scale and a shift after each layer", insert=ssf.insert, merge=ssf.merge),
}
INSERTED = tuple(kind for kind, tuning in TUNINGS.items() if tuning.insert is not None)


def read_kind(tune: str) -> tuple[str, int]:
    """Kind and K: ("last-K", 2) of "last-2", and (name, 0) of others, registered or not."""
    last = re.fullmatch(r"last-(\d+)", tune)
    return (tune, 0) if last is None else ("last-K", int(last[1]))


def chosen(tune: str) -> Tuning:
    """The entry of a name that is registered."""
    return TUNINGS[read_kind(tune)[0]]
