"""From learning features to learning the classifier, gradually: Hybrid-SC and Hybrid-PSC.

No official code was released. In the paper (arXiv:2103.14267) two branches share the backbone:
features learn from uniform batches, the classifier from class-balanced ones. Here both see the
uniform batch, and the cross-entropy of an image is weighted by how much likelier class-balanced
sampling is to draw it, so that it has the same expectation. It needs no second set of pictures;
the price is a larger variance, and batch norms that see tail classes as often as they occur. With
batches that are sampled by class already it would balance twice.

Classified is one view and contrasted are two others, so a step has three views a picture where
the paper has two of one and one of another. The text does not say where its epochs begin to
count: with ours, from 0, the first epoch is contrast alone and the last almost cross-entropy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ssl_lt.core.checks import check_range
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import Epoch
from ssl_lt.finetune.parts import FinetuneModules
from ssl_lt.finetune.tasks.contrast_task import Contrast, ContrastTask
from ssl_lt.losses.pairwise_margin import balanced_cross_entropy
from ssl_lt.losses.prototypical_contrastive import PrototypicalContrastiveLoss
from ssl_lt.losses.supervised_contrastive import (
    SupervisedContrast,
    SupervisedContrastiveOptions,
)
from ssl_lt.models.heads import contrast_head


def contrast_share(epoch: Epoch) -> float:
    """`a = 1 - (T / T_max)^2`: weight of the contrast in the T-th of T_max epochs, from 0."""
    return 1 - (epoch.number / epoch.total) ** 2


@dataclass(frozen=True)
class HybridOptions:
    """Options of both hybrid losses; temperature as in the paper (PSC on CIFAR-10: 1)."""

    temperature: float = 0.1
    """Similarities between projections, or with prototypes, are divided by it."""
    hidden_dim: int = 512
    """Width of the hidden layer of the projection."""
    output_dim: int = 128
    """Width of the projection."""

    def __post_init__(self) -> None:
        check_range(self, {"temperature": "(0, inf)"})
        for name in ("hidden_dim", "output_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least 1")

    def check_epochs(self, epochs: int) -> None:
        """Refuses a run that leaves the classifier as it was drawn: the first epoch is contrast.

        Raises:
            ConfigError: too few epochs.
        """
        if epochs < 2:
            raise ConfigError(
                f"--epochs: {epochs}, and the hybrid losses train the classifier from the second "
                "epoch on: train at least 2"
            )


class HybridTask(ContrastTask):
    """`(1 - a) * cross-entropy(view 0) + a * contrast(views 1 and 2)`; a falls with the epochs."""

    def on_epoch_start(self, epoch: Epoch) -> None:
        """Sets the weights of the two losses."""
        super().on_epoch_start(epoch)
        a = contrast_share(epoch)
        self.weights.copy_(self.weights.new_tensor([1 - a, a]))


def hybrid_sc(parts: FinetuneModules, options: HybridOptions) -> HybridTask:
    """Hybrid-SC: its contrast is the supervised one.

    Raises:
        ConfigError: a class without images.
    """
    chosen = SupervisedContrastiveOptions(temperature=options.temperature)
    contrast = SupervisedContrast(parts.counts_per_class, chosen)
    return _hybrid(parts, options, contrast)


def hybrid_psc(parts: FinetuneModules, options: HybridOptions) -> HybridTask:
    """Hybrid-PSC: its contrast is with learned prototypes.

    Raises:
        ConfigError: a class without images.
    """
    contrast = PrototypicalContrastiveLoss(
        len(parts.counts_per_class), options.output_dim, temperature=options.temperature
    )
    return _hybrid(parts, options, contrast)


def _hybrid(parts: FinetuneModules, options: HybridOptions, contrast_loss: nn.Module) -> HybridTask:
    """The step around a contrast."""
    assert parts.contrastive_view is not None
    head = contrast_head(
        parts.num_features, hidden_dim=options.hidden_dim, output_dim=options.output_dim
    )
    contrast = Contrast(
        contrast_loss,
        parts.contrastive_view,
        head,
        prototype_head=None,
        weight=1.0,
        classification_weight=0.0,
    )
    return HybridTask(parts, balanced_cross_entropy(parts.counts_per_class), contrast)
