"""How large the clusters are: two estimates of the prior that geometric harmonization needs.

Per sample, as published (arXiv:2310.17622): a moving average of each sample's logits, N x K
numbers, whose largest entry is the sample's cluster. Streaming, ours: decayed counts of the
clusters that the steps' logits point to, K numbers whatever N is.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssl_lt.core.memory import SampleMemory, first_rows

EmptyClusters = Literal["keep", "floor"]


def prior_from_counts(
    counts: Tensor, *, pseudo_count: float = 0.0, empty: EmptyClusters = "keep"
) -> Tensor:
    """Shares of the clusters; all equal where nothing has been counted.

    Args:
        counts: (K,) samples in each cluster, may be fractions.
        pseudo_count: added to each cluster (the release: 100 on ImageNet and Places, else 0).
        empty: "keep" leaves a cluster without samples at share 0, so that Sinkhorn never fills it
            again, as the release does; "floor" counts at least one sample in each.

    Returns:
        (K,) float, sums to one.
    """
    smoothed = counts + pseudo_count
    if empty == "floor":
        smoothed = smoothed.clamp(min=1.0)
    shares = smoothed / smoothed.sum()
    return torch.where(counts.sum() > 0, shares, torch.full_like(shares, 1 / len(shares)))


class ClassPrior(SampleMemory):
    """A prior that is estimated all the time and put to use now and then.

    Gathered rows come in, so it is the same on every rank; estimate and prior in use are both
    saved, so a run resumed in the middle of an epoch goes on with the same prior.
    """

    @property
    def prior(self) -> Tensor:
        """(K,) shares in use; all equal before the first `refresh`."""
        return self.tables["prior"]

    def update(self, index: Tensor, logits: Tensor, *, momentum: float) -> None:
        """Takes in a step.

        Args:
            index: (B,) int64, rows in the training set.
            logits: (B, K); rows that are not finite are left out.
            momentum: share of the old that is kept.
        """
        raise NotImplementedError

    def counts(self) -> Tensor:
        """(K,) estimated samples in each cluster."""
        raise NotImplementedError

    def refresh(self, *, pseudo_count: float, empty: EmptyClusters) -> None:
        """Puts the estimate to use."""
        self.tables["prior"] = prior_from_counts(
            self.counts(), pseudo_count=pseudo_count, empty=empty
        )


class PerSamplePrior(ClassPrior):
    """M_i = momentum M_i + (1 - momentum) t_i; a cluster's share is that of argmax M_i.

    M starts at zero (the release: uninitialised memory). Samples never seen count nowhere.

    Args:
        num_samples: N.
        num_clusters: K.
    """

    def __init__(self, num_samples: int, num_clusters: int) -> None:
        super().__init__(
            "class_prior",
            {
                "logits": torch.zeros(num_samples, num_clusters),
                "prior": torch.full((num_clusters,), 1 / num_clusters),
            },
            per_sample=["logits"],
        )

    def update(self, index: Tensor, logits: Tensor, *, momentum: float) -> None:
        """Moves the averages; of a sample's several rows in a batch the first one counts."""
        averages = self.tables["logits"]
        logits = logits[first_rows(index)].to(averages.dtype)
        old = averages[index]
        known = logits.isfinite().all(1, keepdim=True)
        averages[index] = torch.where(known, momentum * old + (1 - momentum) * logits, old)

    def counts(self) -> Tensor:
        """(K,) samples whose average logits point to each cluster."""
        averages = self.tables["logits"]
        return _histogram(averages.argmax(1), averages.any(1), averages.shape[1])

    def clusters(self) -> Tensor:
        """(N,) int64, each sample's cluster; -1 where it has not been seen."""
        averages = self.tables["logits"]
        return torch.where(averages.any(1), averages.argmax(1), -1)


class StreamingPrior(ClassPrior):
    """n_k = momentum n_k + #{i in the batch: argmax t_i = k}; a cluster's share is n_k / sum n.

    The sum decays like its parts, so no correction for the start is needed. With momentum
    1 - 1/steps what an epoch counted has faded to a third an epoch later, and the counts sum to
    about N, so that a pseudo-count means what it means for `PerSamplePrior`.

    Args:
        num_clusters: K.
    """

    def __init__(self, num_clusters: int) -> None:
        super().__init__(
            "class_prior",
            {
                "counts": torch.zeros(num_clusters),
                "prior": torch.full((num_clusters,), 1 / num_clusters),
            },
        )

    def update(self, index: Tensor, logits: Tensor, *, momentum: float) -> None:
        """Decays the counts and adds this step's."""
        counts = self.tables["counts"]
        new = _histogram(logits.argmax(1), logits.isfinite().all(1), logits.shape[1])
        self.tables["counts"] = momentum * counts + new

    def counts(self) -> Tensor:
        """(K,) decayed counts."""
        return self.tables["counts"]


def _histogram(clusters: Tensor, counted: Tensor, num_clusters: int) -> Tensor:
    """(K,) float: how many of the `counted` (B,) rows are in each cluster (B,)."""
    # Integers add up to the same sum in any order, and bincount would wait for the device.
    counts = torch.zeros(num_clusters, dtype=torch.int64, device=clusters.device)
    return counts.scatter_add_(0, clusters, counted.to(torch.int64)).float()
