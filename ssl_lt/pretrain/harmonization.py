"""Geometric harmonization (GH, arXiv:2310.17622): a plug-in that keeps the head from spreading.

Contrastive learning gives a class space in proportion to its size. Fixed, maximally separated
directions stand for clusters; Sinkhorn assigns the batch to them in the shares that the clusters
have now, and each view must predict the other's assignment, so that every cluster, large or
small, gets a direction of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ssl_lt.core.checks import check_at_least, check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.options import option
from ssl_lt.core.processes.distributed import gather_rows
from ssl_lt.core.types import Epoch
from ssl_lt.losses.class_prior import EmptyClusters, PerSamplePrior, StreamingPrior
from ssl_lt.losses.geometric_structure import simplex_etf
from ssl_lt.losses.harmonization import cluster_logits, harmonization
from ssl_lt.losses.sinkhorn import sinkhorn
from ssl_lt.pretrain.two_views import PairStep, Plugin

PriorKind = Literal["per-sample", "streaming"]


@dataclass(frozen=True)
class HarmonizationOptions:
    """Of the plug-in `gh`.

    Raises:
        ConfigError: a value out of range.
    """

    clusters: int = 100
    """Number of cluster directions (100 in all published runs, whatever the number of classes)."""
    weight: float = 1.0
    """Weight of the harmonization loss after its ramp."""
    warmup_epochs: int | None = option(None, page="all")
    """Epochs without the harmonization loss (published: 500 of 1000, 400 of 500). Default: half of
    all epochs."""
    ramp_epochs: int = option(10, page="all")
    """Epochs over which its weight then grows linearly (30 on ImageNet and Places)."""
    temperature: float = option(0.1, page="all")
    """Temperature of the predicted assignment."""
    epsilon: float = option(0.05, page="all")
    """Weight of the entropy in Sinkhorn. Smaller values give harder assignments."""
    sinkhorn_iterations: int = option(300, page="all")
    """Largest number of Sinkhorn iterations in a step."""
    prior: PriorKind = option("per-sample", page="all")
    """Prior of the clusters: per-sample (N x K averages, as published) or streaming (K numbers)."""
    prior_period: int = option(20, page="all")
    """Epochs between two updates of the prior."""
    prior_momentum: float = option(0.9, page="all")
    """Momentum of each sample's average logits, per epoch, during the warm-up."""
    prior_momentum_after: float = option(0.999, page="all")
    """The same after the warm-up. Both belong to the per-sample prior."""
    pseudo_count: float = option(0.0, page="all")
    """Samples added to each cluster (100 on ImageNet and Places)."""
    empty_clusters: EmptyClusters = option("keep", page="all")
    """A cluster without samples keeps a prior of 0 (keep), or counts as one sample (floor)."""

    def __post_init__(self) -> None:
        leasts = {"clusters": 2, "warmup_epochs": 0, "ramp_epochs": 0}
        leasts |= {"sinkhorn_iterations": 1, "prior_period": 1}
        check_at_least(self, leasts, prefix="gh.")
        ranges = {"weight": "[0, inf)", "pseudo_count": "[0, inf)"}
        ranges |= {"temperature": "(0, inf)", "epsilon": "(0, inf)"}
        ranges |= {"prior_momentum": "[0, 1)", "prior_momentum_after": "[0, 1)"}
        check_range(self, ranges, prefix="gh.")
        for name, kind in (("prior", PriorKind), ("empty_clusters", EmptyClusters)):
            if getattr(self, name) not in get_args(kind):
                known = " or ".join(get_args(kind))
                flag = f"--gh.{name.replace('_', '-')}"
                raise ConfigError(f"{flag}: {getattr(self, name)!r}, must be {known}")

    def without_effect(self) -> dict[str, str]:
        """Start of a flag -> what has to be chosen for such flags to have an effect."""
        if self.prior == "per-sample":
            return {}
        return {"gh.prior-momentum": "--gh.prior per-sample"}


def warmup_end(options: HarmonizationOptions, total_epochs: int) -> int:
    """First epoch, from 0, with the term.

    Raises:
        ConfigError: training ends before.
    """
    if options.warmup_epochs is None:
        return total_epochs // 2
    if options.warmup_epochs >= total_epochs:
        raise ConfigError(
            f"--gh.warmup-epochs: {options.warmup_epochs}, "
            f"must be below the {total_epochs} epochs of training"
        )
    return options.warmup_epochs


def weight_at(options: HarmonizationOptions, epoch: Epoch) -> float:
    """0 in the warm-up, then weight / G, 2 weight / G ... over G ramp epochs, then weight."""
    since = epoch.number - warmup_end(options, epoch.total) + 1
    return options.weight * min(max(since / max(options.ramp_epochs, 1), 0.0), 1.0)


class GeometricHarmonization(Plugin):
    """Adds the term `gh`: the mean of `harmonization` over the batch, times the epoch's weight.

    The released CIFAR script moves the samples' averages in every step and renews the prior in
    every step of epochs W, and of all e with e+1 divisible by 20; the ImageNet script does both
    once an epoch. We move the averages in every step, which comes to the same as a sample is seen
    once an epoch, and renew the prior once, at the end of epoch W-1 and of every `prior_period`-th
    epoch after it: inside an epoch the prior is constant, so a resumed run has the same one.
    A warm-up of no epochs starts from equal shares.

    Args:
        options: see there.
        num_samples: N, size of the training set.
        dim: d, of the projections.
        seed: of the run; the directions' orientation follows from it.

    Raises:
        ConfigError: more clusters than fit into the dimensions.
    """

    structure: Tensor
    weight: Tensor

    def __init__(
        self, options: HarmonizationOptions, *, num_samples: int, dim: int, seed: int
    ) -> None:
        super().__init__()
        self.options = options
        structure = simplex_etf(options.clusters, dim, seed=seed)
        self.register_buffer("structure", structure.to(torch.get_default_dtype()))
        # On the device and not a Python number, so that a compiled step is not compiled anew.
        self.register_buffer("weight", torch.zeros(()), persistent=False)
        self.class_prior: PerSamplePrior | StreamingPrior = (
            PerSamplePrior(num_samples, options.clusters)
            if options.prior == "per-sample"
            else StreamingPrior(options.clusters)
        )
        self.active = False
        self.momentum = options.prior_momentum
        # Unrolled, its iterations would take minutes to compile. Not a decorator: that
        # imports the compiler, which takes as long as torch itself, even for --help.
        self.sinkhorn = torch.compiler.disable(sinkhorn)  # type: ignore[no-untyped-call]

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Sets what is constant in an epoch: weight and momentum.

        Raises:
            ConfigError: the warm-up is not over when training is.
        """
        self.weight.fill_(weight_at(self.options, epoch))
        self.active = epoch.number >= warmup_end(self.options, epoch.total)
        if self.options.prior == "streaming":
            self.momentum = 1 - 1 / epoch.steps
        elif self.active:
            self.momentum = self.options.prior_momentum_after
        else:
            self.momentum = self.options.prior_momentum

    def terms(self, step: PairStep) -> dict[str, Tensor]:
        """`gh`: 0 in the warm-up, where no assignment is computed."""
        if not self.active:
            return {"gh": step.z1.new_zeros(())}
        t1 = cluster_logits(step.z1, self.structure)
        t2 = cluster_logits(step.z2, self.structure)
        q1, q2 = self._assign(t1, t2)
        losses = harmonization(t1, t2, q1, q2, temperature=self.options.temperature)
        return {"gh": self.weight * losses.mean()}

    @torch.no_grad()
    def observe(self, step: PairStep) -> None:
        """Feeds the prior's estimate with view 1 of the samples of all ranks."""
        logits = cluster_logits(step.z1, self.structure)
        self.class_prior.update(
            gather_rows(step.index), gather_rows(logits), momentum=self.momentum
        )

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Renews the prior when its time has come."""
        since = epoch.number + 1 - warmup_end(self.options, epoch.total)
        if since >= 0 and since % self.options.prior_period == 0:
            self.class_prior.refresh(
                pseudo_count=self.options.pseudo_count, empty=self.options.empty_clusters
            )

    def memories(self) -> Sequence[SampleMemory]:
        """The prior in use and what it is estimated from."""
        return (self.class_prior,)

    def scores(self) -> Mapping[str, Tensor]:
        """`gh_prior`: (K,) shares in use; `gh_cluster`: (N,) cluster, -1 unknown, if per sample."""
        scores = {"gh_prior": self.class_prior.prior}
        if isinstance(self.class_prior, PerSamplePrior):
            scores["gh_cluster"] = self.class_prior.clusters().int()
        return scores

    def _assign(self, t1: Tensor, t2: Tensor) -> tuple[Tensor, Tensor]:
        """Each view's assignment of the global batch; of it, this rank's rows."""
        q1, q2 = self.sinkhorn(
            torch.stack([t1, t2]),
            self.class_prior.prior,
            epsilon=self.options.epsilon,
            max_iterations=self.options.sinkhorn_iterations,
        )
        return q1, q2
