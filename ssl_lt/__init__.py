"""Learning from long-tailed image collections: first without labels, then with them.

`ssl_lt.pretrain`, `finetune`, `evaluate`, `predict` and `embed` are the commands as functions,
`ssl_lt.load` gives a trained network; `ssl_lt.losses` has the losses for a loop of one's own.
docs/python.md shows them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssl_lt.core.errors import UserError
from ssl_lt.core.version import __version__
from ssl_lt.verbs import embed, evaluate, finetune, load, predict, pretrain

if TYPE_CHECKING:
    from ssl_lt import losses
    from ssl_lt.data.loading.class_sampler import ClassBalancedSampler
    from ssl_lt.data.long_tail import long_tailed_counts, long_tailed_subset
    from ssl_lt.evaluate.scores.accuracy import accuracy_by_group

__all__ = [
    "ClassBalancedSampler",
    "UserError",
    "__version__",
    "accuracy_by_group",
    "embed",
    "evaluate",
    "finetune",
    "load",
    "long_tailed_counts",
    "long_tailed_subset",
    "losses",
    "predict",
    "pretrain",
]

# What is imported where it is first used, so that `import ssl_lt` brings neither torch nor NumPy.
_HOMES = {
    "ClassBalancedSampler": "ssl_lt.data.loading.class_sampler",
    "accuracy_by_group": "ssl_lt.evaluate.scores.accuracy",
    "long_tailed_counts": "ssl_lt.data.long_tail",
    "long_tailed_subset": "ssl_lt.data.long_tail",
}


def __getattr__(name: str) -> Any:
    if name == "losses":
        return import_module("ssl_lt.losses")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ssl_lt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
