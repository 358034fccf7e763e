"""For which classes sharpness is minimised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option


@dataclass(frozen=True)
class TailSharpnessOptions:
    """ImbSAM (arXiv:2308.07815) restricts sharpness-aware minimisation to the tail."""

    sam_classes: Literal["all", "tail"] = option("all", page="all")
    """Classes for whose loss --sam takes the gradient uphill: all (SAM), or tail (ImbSAM); the
    others then have their plain gradient."""
    sam_tail_below: int = option(20, page="all")
    """Classes with fewer training images than this are the tail of --sam-classes tail (20 in
    ImbSAM's code)."""

    def __post_init__(self) -> None:
        check_at_least(self, {"sam_tail_below": 1})

    def without_effect(self, *, sam: float) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        if not sam:
            return {"sam-": "--sam"}
        return {"sam-tail-below": "--sam-classes tail"} if self.sam_classes == "all" else {}


def tail_classes(counts_per_class: Tensor, options: TailSharpnessOptions) -> Tensor | None:
    """(C,) bool: the classes that belong to the tail; None: no class is told apart.

    Args:
        counts_per_class: (C,) training images.
        options: the rule.

    Raises:
        ConfigError: no class does.
    """
    if options.sam_classes == "all":
        return None
    tail = counts_per_class < options.sam_tail_below
    if not bool(tail.any()):
        raise ConfigError(
            f"--sam-tail-below: no class has fewer than {options.sam_tail_below} training images, "
            f"the smallest has {int(counts_per_class.min())}"
        )
    return tail
