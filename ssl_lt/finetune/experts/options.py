"""Whether a classifier is several experts, and which."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option

_OWNERS = {
    "diversity_weight": ("ride",),
    "diversity_temperature": ("ride",),
    "class_temperature": ("ride",),
    "class_temperature_start": ("ride",),
    "expert_groups": ("ace",),
    "expert_rates": ("ace",),
    "interference_weight": ("ace",),
}


@dataclass(frozen=True)
class ExpertOptions:
    """Several experts in one network, each with the loss that --loss names."""

    experts: Literal["none", "ride", "ace"] = "none"
    """ride: all learn every class and differ (arXiv:2010.01809); ace: on all, on rarer and on the
    rarest classes (arXiv:2108.02385)."""
    num_experts: int = option(3, page="all")
    """How many."""
    expert_width: float = option(0.75, page="all")
    """Channels of the experts' own stages, as a share of the network's."""
    diversity_weight: float = option(-0.2, page="all")
    """Weight of the divergence between an expert and the mean of all; negative: they are pushed
    apart. ride only."""
    diversity_temperature: float = option(1.0, page="all")
    """Logits are divided by it in the divergence. ride only."""
    class_temperature: float = option(0.05, page="all")
    """How far the temperatures of the classes follow their training images; 0: not. ride only."""
    class_temperature_start: float = option(0.8, page="all")
    """Share of the epochs after which classes have temperatures of their own. ride only."""
    expert_groups: Literal["thirds", "counts"] = option("thirds", page="all")
    """How classes are shared out: in equal parts (as many as experts), or by more than 100, 20 to
    100, fewer than 20 training images (three experts). ace only."""
    expert_rates: Literal["counts", "equal"] = option("counts", page="all")
    """How fast an expert learns: as its share of the training images, or all alike. ace only."""
    interference_weight: float = option(1.0, page="all")
    """Weight of the squared logits of classes that are not an expert's. ace only."""

    def __post_init__(self) -> None:
        self._check_owners()
        if self.num_experts < 2:
            raise ConfigError(f"--num-experts: {self.num_experts}, must be at least 2")
        if self.expert_groups == "counts" and self.num_experts != 3:
            raise ConfigError(
                f"--num-experts: {self.num_experts}, and --expert-groups counts makes 3 groups"
            )
        ranges = {
            "expert_width": "(0, 1]",
            "diversity_weight": "(-inf, inf)",
            "diversity_temperature": "(0, inf)",
            "class_temperature": "[0, 1)",
            "class_temperature_start": "[0, 1]",
            "interference_weight": "[0, inf)",
        }
        check_range(self, ranges)

    def _check_owners(self) -> None:
        """Refuses what the chosen experts would not read."""
        for field in dataclasses.fields(self):
            owners = _OWNERS.get(field.name, ("ride", "ace"))
            changed = getattr(self, field.name) != field.default
            if changed and field.name != "experts" and self.experts not in owners:
                raise ConfigError(
                    f"--{field.name.replace('_', '-')} belongs to --experts {' or '.join(owners)}, "
                    "which was not chosen"
                )
