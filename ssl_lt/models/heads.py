"""What stands between a backbone, or a classifier, and a contrastive loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.options import option


@dataclass(frozen=True)
class ProjectorOptions:
    """The network between the backbone and the contrastive loss."""

    num_layers: int = option(2, page="all")
    """Number of linear layers (SimCLR 2, the released code of SDCLR 3)."""
    hidden_dim: int | None = option(None, page="all")
    """Width of the hidden layers. Default: the width of the backbone\'s features."""
    output_dim: int = option(128, page="all")
    """Width of the projections."""

    def __post_init__(self) -> None:
        leasts = {"num_layers": 1, "hidden_dim": 1, "output_dim": 1}
        check_at_least(self, leasts, prefix="projector.")


def projector(num_features: int, options: ProjectorOptions) -> nn.Module:
    """Linear-BN-ReLU ... Linear-BN, as in SimCLR and SDCLR.

    Only the first linear layer has a bias: the released codes give it one, and the batch norms
    make the others' superfluous.

    Args:
        num_features: width of the backbone's features.
        options: layers and widths.

    Returns:
        lightly's `ProjectionHead`: (B, num_features) -> (B, output_dim).
    """
    from lightly.models.modules.heads import ProjectionHead  # seconds to import, only for models

    hidden = options.hidden_dim or num_features
    last = options.num_layers - 1
    widths = [num_features, *[hidden] * last, options.output_dim]
    blocks = [
        (
            widths[i],
            widths[i + 1],
            nn.BatchNorm1d(widths[i + 1]),
            nn.ReLU() if i < last else None,
            i == 0 and last > 0,
        )
        for i in range(options.num_layers)
    ]
    return cast(nn.Module, ProjectionHead(blocks))


def contrast_head(num_features: int, *, hidden_dim: int, output_dim: int) -> nn.Module:
    """Linear-BN-ReLU-Linear, as in balanced contrastive learning's released code.

    Args:
        num_features: width of what comes in.
        hidden_dim: width of the hidden layer.
        output_dim: width of the projections.

    Returns:
        (B, num_features) -> (B, output_dim), any norm.
    """
    return nn.Sequential(
        nn.Linear(num_features, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, output_dim),
    )


def prototype_head(num_features: int, *, hidden_dim: int, output_dim: int) -> nn.Module:
    """The same layers for the weights of a classifier, one row a class.

    Its batch norm keeps no running statistics: the C rows are always all there, and N processes,
    which have N copies of them, equal one.
    """
    return nn.Sequential(
        nn.Linear(num_features, hidden_dim),
        nn.BatchNorm1d(hidden_dim, track_running_stats=False),
        nn.ReLU(),
        nn.Linear(hidden_dim, output_dim),
    )
