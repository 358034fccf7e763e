"""Losses of `finetune.py --loss` that need a step of their own: one line each.

A loss of logits alone, or a contrast of labelled rows beside one, stands in `losses/registry.py`
and is trained by `ClassifierTask` or `ContrastTask`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ssl_lt.finetune.parts import Parts
from ssl_lt.finetune.task import ClassifierTask


@dataclass(frozen=True)
class StepEntry:
    """A loss with a step of its own.

    Attributes:
        build: (parts, options) -> task.
        options: frozen dataclass whose fields become flags.
        description: one line, with the source.
        has_views: two contrastive views beside the classified one, set with `--view.*`.
    """

    build: Callable[[Parts, Any], ClassifierTask]
    options: type[Any]
    description: str
    has_views: bool = False


STEPS: dict[str, StepEntry] = {}
