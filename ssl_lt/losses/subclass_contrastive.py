"""Sub-class-balancing contrast: rows attract within a sub-class, and less within their class.

SBCL (arXiv:2306.15925). The released code multiplies the first of its two terms by `t / 0.07` and
leaves the second as it is; we multiply neither, as in the supervised contrast, so the released
code's 0.25 between them is 0.175 here (at its t = 0.1), and its loss ours times 1.43.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.kmeans import cluster_means
from ssl_lt.losses.labelled_rows import LabelledRows
from ssl_lt.losses.supervised_contrastive import ContrastOptions, supervised_contrastive

Form = Literal["rank", "ccl"]
# Density is the mean distance of a class's rows to their mean over log(n_c + this).
_SMOOTHING = 10
_PERCENTILES = 0.2, 0.8


def two_level_contrastive(
    rows: LabelledRows, parents: Tensor, *, temperature: float, class_weight: float
) -> Tensor:
    """Supervised contrast by sub-class plus that by class (the released "ccl").

    `L_i = SupCon_i(sub-classes) + class_weight * SupCon_i(classes)`. Where every class is one
    sub-class it is the supervised contrast times `1 + class_weight`.

    Args:
        rows: anchors and keys with their sub-classes as labels.
        parents: (K,) int64 class of each sub-class.
        temperature: `t` > 0 of both.
        class_weight: of the second term.

    Returns:
        (A,) losses.
    """
    classes = replace(rows, labels=parents[rows.labels], key_labels=parents[rows.key_labels])
    by_sub_class = supervised_contrastive(rows, temperature=temperature)
    return by_sub_class + class_weight * supervised_contrastive(classes, temperature=temperature)


def ranked_contrastive(
    rows: LabelledRows,
    other_views: Tensor,
    parents: Tensor,
    class_temperatures: Tensor,
    *,
    temperature: float,
    class_weight: float,
) -> Tensor:
    """Supervised contrast by sub-class, and by class without the sub-class (the released "Rank").

    `L_i = SupCon_i(sub-classes) - class_weight / |Q_i| sum_{q in Q_i} [ z_i.z_q / phi_c
    - log sum_{k in D_i} exp(z_i.z_k / phi_c) ]`, where c is the anchor's class, `D_i` are the keys
    outside its sub-class and its own other view, and `Q_i` those of them in its class.

    Args:
        rows: anchors and keys with their sub-classes as labels.
        other_views: (A,) int64, the key that is the other view of the anchor's picture.
        parents: (K,) int64 class of each sub-class.
        class_temperatures: (C,) `phi` > 0.
        temperature: `t` > 0 of the first term.
        class_weight: of the second term.

    Returns:
        (A,) losses.
    """
    anchor_classes = parents[rows.labels]
    candidates = ~rows.same_class()
    candidates = candidates.scatter(1, other_views[:, None], True)  # noqa: FBT003
    positive = candidates & (anchor_classes[:, None] == parents[rows.key_labels])
    logits = (rows.anchors / class_temperatures[anchor_classes, None]) @ rows.keys.T
    attraction = (logits * positive).sum(dim=1) / positive.sum(dim=1)
    repelled = logits.masked_fill(~candidates, float("-inf")).logsumexp(dim=1)
    by_sub_class = supervised_contrastive(rows, temperature=temperature)
    return by_sub_class + class_weight * (repelled - attraction)


def temperatures_by_density(
    features: Tensor, labels: Tensor, sub_classes_per_class: Tensor, *, temperature: float
) -> Tensor:
    """(C,) `phi_c = t * density_c / mean density`: denser classes get a lower temperature.

    `density_c = mean_i |x_i - mu_c| / log(n_c + 10)`, clipped to the 20th and 80th percentile of
    all classes. A class of one sub-class has `t`, and so has one whose rows coincide.

    Args:
        features: (N, D) of unit norm.
        labels: (N,) int64 classes.
        sub_classes_per_class: (C,) int64.
        temperature: `t`.
    """
    num_classes = len(sub_classes_per_class)
    centroids = cluster_means(features, labels, num_classes)
    distances = (features - centroids[labels]).norm(dim=1, keepdim=True)
    sizes = torch.bincount(labels, minlength=num_classes)
    density = cluster_means(distances, labels, num_classes)[:, 0] / (sizes + _SMOOTHING).log()
    low, high = (density.quantile(share) for share in _PERCENTILES)
    density = density.clamp(low, high)
    spread = (density > 0) & (sub_classes_per_class > 1)
    return torch.where(spread, temperature * density / density.mean(), temperature)


@dataclass(frozen=True)
class SubClassContrastiveOptions(ContrastOptions):
    """SBCL beside logit adjustment."""

    form: Form = "rank"
    """rank: the contrast by class leaves the sub-class out and has a temperature for each class;
    ccl: it does not."""
    class_weight: float = 0.175
    """Weight of the contrast by class beside that by sub-class; the default is the released 0.25 in
    our scale."""
    cluster_after: int = 10
    """Epochs of supervised contrast by class before the first clustering."""
    recluster_every: int = 10
    """Epochs between two clusterings."""
    smallest_sub_class: int = 10
    """Sub-classes are about as large as the smallest class, but not smaller than this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in get_args(Form):
            raise ConfigError(f"--form: {self.form!r}, must be {' or '.join(get_args(Form))}")
        if not 0 <= self.class_weight < float("inf"):
            raise ConfigError(f"--class-weight: {self.class_weight} is negative or not finite")
        if self.cluster_after < 0:
            raise ConfigError(f"--cluster-after: {self.cluster_after} is negative")
        for name in ("recluster_every", "smallest_sub_class"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least 1")

    def check_epochs(self, epochs: int) -> None:
        """Refuses a run that ends before the first clustering: it never contrasts by sub-class.

        Raises:
            ConfigError: too few epochs.
        """
        if epochs <= self.cluster_after:
            raise ConfigError(
                f"--epochs: {epochs}, and SBCL finds its sub-classes after --cluster-after "
                f"{self.cluster_after} epochs: train longer or cluster earlier"
            )
