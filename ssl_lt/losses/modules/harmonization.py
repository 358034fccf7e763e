"""Geometric harmonization as a module, with its clusters and their prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import gather_rows
from ssl_lt.losses.class_prior import EmptyClusters, PerSamplePrior, StreamingPrior
from ssl_lt.losses.geometric_structure import simplex_etf
from ssl_lt.losses.harmonization import cluster_logits, harmonization
from ssl_lt.losses.modules.inputs import (
    Reduction,
    checked_labels,
    checked_pair,
    checked_reduction,
    reduced,
)
from ssl_lt.losses.sinkhorn import sinkhorn


class GeometricHarmonizationLoss(nn.Module):
    """`-sum_k q1 log softmax(t2 / gamma) - sum_k q2 log softmax(t1 / gamma)` (arXiv:2310.17622).

    Beside a contrast of the same projections, after a warm-up (`pretrain.py --plugins gh`). `t` are
    the logits of K fixed directions, and `q` is Sinkhorn's assignment of the batch of all processes
    to them, in the shares of the prior. In training mode each call also feeds the prior's
    estimate, which `update_prior` puts to use: call it at the end of an epoch, first at the end of
    the warm-up. Prior and estimate are in `state_dict`.

    Args:
        dim: D, width of the projections.
        clusters: K.
        num_samples: N, size of the training set: the prior is then estimated from an average of
            each sample's logits, as published. None: from the clusters of the last steps.
        momentum: share of the old estimate that stays in a step; published are 0.9 in the warm-up
            and 0.999 after it. It is an attribute that may be changed.
        temperature: `gamma`.
        epsilon: weight of the entropy in Sinkhorn.
        seed: of the orientation of the directions.
        reduction: "mean", "sum" or "none".

    Raises:
        ConfigError: a value out of range, or more clusters than fit into the dimensions.
    """

    structure: Tensor

    def __init__(  # noqa: PLR0913  (the method's own constants)
        self,
        dim: int,
        *,
        clusters: int = 100,
        num_samples: int | None = None,
        momentum: float = 0.9,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        seed: int = 0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.num_samples, self.momentum = num_samples, momentum
        self.temperature, self.epsilon = temperature, epsilon
        self.reduction = checked_reduction(reduction)
        check_at_least(self, {"num_samples": 1})
        check_range(self, {"momentum": "[0, 1)", "temperature": "(0, inf)", "epsilon": "(0, inf)"})
        structure = simplex_etf(clusters, dim, seed=seed).to(torch.get_default_dtype())
        self.register_buffer("structure", structure)
        self.class_prior = (
            StreamingPrior(clusters)
            if num_samples is None
            else PerSamplePrior(num_samples, clusters)
        )

    @property
    def prior(self) -> Tensor:
        """(K,) shares of the clusters that are in use; all equal at first."""
        return self.class_prior.prior

    def forward(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """The loss.

        Args:
            z1: (B, D) projections of view 1, any norm; as many on every process.
            z2: (B, D) projections of view 2.
            index: (B,) integers, rows in the training set; needed with `num_samples`.

        Returns:
            A scalar, or (B,) where nothing is reduced.

        Raises:
            ConfigError: other shapes or types, or an index that is missing or out of range.
        """
        z1, z2 = checked_pair(z1, z2)
        dim = self.structure.shape[1]
        if z1.shape[1] != dim:
            raise ConfigError(f"z1: {z1.shape[1]} columns, but the directions have {dim}")
        if self.num_samples is None:
            index = torch.zeros(len(z1), dtype=torch.int64, device=z1.device)
        elif index is None:
            raise ConfigError("index: not given; a prior by sample needs to know the samples")
        else:
            index = checked_labels(index, len(z1), num_classes=self.num_samples, name="index")
        if self.prior.device != z1.device:
            self.class_prior.to(z1.device)
        with torch.autocast(z1.device.type, enabled=False):
            structure = self.structure.to(z1)
            t1, t2 = cluster_logits(z1, structure), cluster_logits(z2, structure)
            both = torch.stack([t1, t2])
            q1, q2 = sinkhorn(both, self.prior, epsilon=self.epsilon)
            losses = harmonization(t1, t2, q1, q2, temperature=self.temperature)
        if self.training:
            with torch.no_grad():
                logits = gather_rows(t1.detach())
                self.class_prior.update(gather_rows(index), logits, momentum=self.momentum)
        return reduced(losses, self.reduction)

    def update_prior(self, *, pseudo_count: float = 0.0, empty: EmptyClusters = "keep") -> None:
        """Puts the estimate of the prior to use.

        Args:
            pseudo_count: samples added to each cluster (100 in the release on ImageNet).
            empty: a cluster without samples keeps a share of 0, or counts as one ("floor").
        """
        self.class_prior.refresh(pseudo_count=pseudo_count, empty=empty)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The prior in use and what it is estimated from, for `state_dict`."""
        return self.class_prior.state_dict()

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Takes over a saved prior."""
        self.class_prior.load_state_dict(state)
